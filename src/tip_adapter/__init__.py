"""Few-shot image classification with CLIP and a cache model, without training."""
