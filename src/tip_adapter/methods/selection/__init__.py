"""Choose hyper-parameters from the shots."""
