"""Methods trained on features."""
