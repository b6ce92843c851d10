"""Turn whatever holds images or labels, from generators to data frames, into plain lists."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from tip_adapter.data.decoding import ImageSource, NamedBytes, StoredImage
from tip_adapter.errors import ImageError, InputError

Images = ImageSource | Iterable[ImageSource]
"""One image, or several: a list, generator, column, series, stack; see `list_images`."""

Labels = str | int | Iterable[str] | Iterable[int]
"""The label of one image, or of each of several; see `list_labels`."""

CHANNELS = (1, 3, 4)
"""Of grey, coloured and partly transparent pixels."""


def list_images(images: Any) -> list[ImageSource]:
    """List images by iterating over them once, never by their index; one image alone is a list of one.

    An image is a path, bytes, an open file, a Pillow image, an array of shape (H, W), (H, W, 3) or (H, W, 4), a tensor
    with the channels first or last, or a dictionary of ``bytes`` and ``path``, as Hugging Face stores images. Anything
    else stays as it is in the list, and is refused where it is read, so that it can be skipped as a bad photo.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.data.sequences import list_images
    >>> photo = np.zeros((20, 30, 3), dtype=np.uint8)
    >>> len(list_images(photo)), len(list_images(np.stack([photo, photo]))), list_images(f"{n}.jpg" for n in "ab")
    (1, 2, ['a.jpg', 'b.jpg'])
    """
    if is_one_image(images):
        return [_plain_image(images)]
    if _is_array(images):
        _check_stack(images)
    if isinstance(images, np.ndarray) and images.dtype.kind in "OSU" and images.ndim > 1:
        raise InputError(f"Expected images in one dimension, got an array of shape {images.shape}: choose a column")
    return [_plain_image(image) for image in list_items(images, "images")]


def is_one_image(value: Any) -> bool:
    """Tell one image from several."""
    if _is_array(value):
        shape = _channels_last(value).shape
        return len(shape) == 2 or (len(shape) == 3 and shape[2] in CHANNELS)
    return isinstance(value, str | os.PathLike | bytes | bytearray | memoryview | Image.Image | StoredImage) or (
        _is_open_file(value) or _is_stored_image(value)
    )


def list_labels(labels: Any) -> list[Any]:
    """List labels by iterating over them once, as Python's own values; one label alone is a list of one.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.data.sequences import list_labels
    >>> list_labels(np.array([2, 0])), list_labels("hat")
    ([2, 0], ['hat'])
    """
    if isinstance(labels, str | bytes) or getattr(labels, "shape", None) == () or np.isscalar(labels):
        return [_plain_label(labels)]
    shape = getattr(labels, "shape", ())
    if len(shape) > 1:
        raise InputError(f"Expected one label for each image, got labels of shape {tuple(shape)}: give one column")
    return [_plain_label(label) for label in list_items(labels, "labels")]


def list_items(values: Any, what: str) -> list[Any]:
    """List what a sequence, generator, series, column or array holds, in its order."""
    if column_names(values) is not None:
        raise InputError(f"Expected {what} as a list or one column, got a table ({_kind(values)}): choose a column")
    if isinstance(values, Mapping):
        raise InputError(f"Expected {what} as a list, got {_kind(values)}: give one of its values, or all as a list")
    if isinstance(values, set | frozenset):
        raise InputError(f"Expected {what} in an order, got {_kind(values)}, which has none: give a list")
    if hasattr(type(values), "to_pylist"):  # of pyarrow, whose own iteration gives scalars
        return list(values.to_pylist())
    try:
        only_array = hasattr(type(values), "__array__") and not hasattr(type(values), "__iter__")
        return list(np.asarray(values) if only_array else values)
    except TypeError as error:
        raise InputError(f"Expected {what} as a list, got {_kind(values)}: put them into a list") from error


def column_names(table: Any) -> list[str] | None:
    """Name the columns of a data frame, an Arrow table or a Hugging Face data set; None for anything else."""
    if hasattr(type(table), "collect") and hasattr(type(table), "columns"):
        raise InputError(f"Expected a table whose rows are there, got {_kind(table)}: collect() it")
    # Of the type, because a series has an attribute for every label of its index.
    attribute = next((name for name in ("column_names", "columns") if hasattr(type(table), name)), None)
    names = getattr(table, attribute) if attribute and hasattr(type(table), "__getitem__") else None
    return None if names is None or isinstance(names, Mapping) else list(names)


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _is_array(value: Any) -> bool:
    """Tell pixels from whatever else has a shape: series, columns, arrays of paths."""
    if isinstance(value, np.ndarray):
        return value.ndim > 1 and value.dtype.kind not in "OSU"
    return hasattr(value, "__array__") and getattr(value, "ndim", 1) > 1 and column_names(value) is None


def _is_open_file(value: Any) -> bool:
    # Not what is read when it is wanted: opened here, all of a data set would be in memory at once.
    return callable(getattr(value, "read", None)) and not isinstance(value, StoredImage)


def _is_stored_image(value: Any) -> bool:
    return isinstance(value, Mapping) and {"bytes", "path"} == set(value)


def _channels_last(array: Any) -> Any:
    """See an array as NumPy does, or a tensor with its channels behind, where the field's tensors have them first."""
    if isinstance(array, np.ndarray):
        return array
    pixels = np.asarray(_off_the_device(array) if hasattr(array, "detach") else array)
    if pixels.ndim > 2 and pixels.shape[-3] in CHANNELS and pixels.shape[-1] not in CHANNELS:
        return np.moveaxis(pixels, -3, -1)
    return pixels


def _off_the_device(tensor: Any) -> Any:
    values = tensor.detach().cpu()
    return values.float() if values.is_floating_point() else values  # NumPy has no bfloat16


def _check_stack(array: Any) -> None:
    pixels = _channels_last(array)
    if pixels.ndim != 4 or pixels.shape[3] not in CHANNELS:
        raise InputError(
            f"Expected one image of shape (H, W), (H, W, 3) or (H, W, 4), or a stack (N, H, W, 3), got an array of "
            f"shape {tuple(array.shape)}: for grey images give list(array)"
        )


def _plain_image(image: Any) -> ImageSource:
    """Bring an image into one of the forms that are read as pictures."""
    if hasattr(image, "as_py"):
        image = image.as_py()
    if _is_stored_image(image):
        data, path = image["bytes"], image["path"]
        image = path if data is None else data if path is None else NamedBytes(data, os.fspath(path))
    if _is_open_file(image):
        image = _content(image)
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    plain: ImageSource = _channels_last(image) if _is_array(image) else image
    return plain


def _content(file: Any) -> bytes:
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # ValueError: of a file that is closed already
        raise ImageError(f"Expected an open image file, got an error ({error}): open it again") from error
    if not isinstance(data, bytes):
        raise InputError(f"Expected an image file opened for bytes, got {_kind(file)} of text: open it with 'rb'")
    return data


def _plain_label(label: Any) -> Any:
    if hasattr(label, "as_py"):
        return label.as_py()
    one = isinstance(label, np.generic) or (getattr(label, "shape", None) == () and hasattr(label, "item"))
    return label.item() if one else label
