"""Turn images and class texts into features and zero-shot weights, each encoded once and kept."""
