"""Labelled photos from folders, manifests and archives."""

from tip_adapter.data.dataset import ImageDataset, is_table, load_dataset, load_splits, says_classes
from tip_adapter.data.findings import Findings
from tip_adapter.data.formats import IMAGE_SUFFIXES
from tip_adapter.data.search import find_images

__all__ = [
    "IMAGE_SUFFIXES",
    "Findings",
    "ImageDataset",
    "find_images",
    "is_table",
    "load_dataset",
    "load_splits",
    "says_classes",
]
