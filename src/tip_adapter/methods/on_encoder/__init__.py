"""Methods that train through the encoder."""
