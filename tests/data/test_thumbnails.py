"""Thumbnails: small, whole, in order."""

import io

import numpy as np
import pytest
from PIL import Image

from tip_adapter.data.thumbnails import make_thumbnails
from tip_adapter.errors import ImageError


def test_size_shape_and_order():
    shapes = [(300, 200), (200, 600), (50, 40), (1, 900)]
    photos = [np.full((*shape, 3), 60 * index, dtype=np.uint8) for index, shape in enumerate(shapes)]
    pictures = [Image.open(io.BytesIO(data)) for data in make_thumbnails(photos)]
    assert [picture.size for picture in pictures] == [(85, 128), (128, 43), (40, 50), (128, 1)]
    assert all(picture.format == "JPEG" for picture in pictures)
    assert [round(np.asarray(picture).mean() / 60) for picture in pictures] == [0, 1, 2, 3]


def test_a_photo_that_cannot_be_read(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        make_thumbnails([np.zeros((9, 9, 3), dtype=np.uint8), tmp_path / "bad.jpg"])
