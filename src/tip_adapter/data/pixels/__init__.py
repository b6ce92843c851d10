"""Read image files as upright RGB pixels of 8 bits, with NumPy and Pillow alone; every export contains this package."""

from tip_adapter.data.pixels.containers import (
    FORMATS,
    HEAD_BYTES,
    TruncatedImageError,
    UnreadableImageError,
    exif_orientation,
    image_format,
)
from tip_adapter.data.pixels.encoded import MAX_DECODED_BYTES, MAX_JPEG_PIXELS, MAX_PIXELS, EncodedImage, upright
from tip_adapter.data.pixels.files import MAX_FILE_BYTES, read_file
from tip_adapter.data.pixels.samples import rgb_of_array, rgb_of_image
from tip_adapter.data.pixels.views import RESAMPLING, center_view

__all__ = [
    "FORMATS",
    "HEAD_BYTES",
    "MAX_DECODED_BYTES",
    "MAX_FILE_BYTES",
    "MAX_JPEG_PIXELS",
    "MAX_PIXELS",
    "RESAMPLING",
    "EncodedImage",
    "TruncatedImageError",
    "UnreadableImageError",
    "center_view",
    "exif_orientation",
    "image_format",
    "read_file",
    "rgb_of_array",
    "rgb_of_image",
    "upright",
]
