"""Methods that see all test photos together, without their labels: transductive, or at test time."""
