"""Labelled photos from folders, manifests and archives."""

from tip_adapter.data.dataset import IMAGE_SUFFIXES, ImageDataset, find_images, load_dataset

__all__ = ["IMAGE_SUFFIXES", "ImageDataset", "find_images", "load_dataset"]
