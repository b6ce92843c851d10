"""Small pictures as clients send them."""

import io

import numpy as np
from PIL import Image


def photo(shade, size=(32, 32)):
    """A grey picture as the bytes of a PNG file."""
    out = io.BytesIO()
    Image.fromarray(np.full((*size, 3), shade, dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def files(*shades):
    return [("files", (f"{shade}.png", photo(shade), "image/png")) for shade in shades]
