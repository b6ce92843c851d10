"""Small pictures as clients send them."""

import io

import numpy as np
from PIL import Image


def png(pixels):
    """A picture as the bytes of a PNG file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def photo(shade, size=(32, 32)):
    """A grey picture as the bytes of a PNG file."""
    return png(np.full((*size, 3), shade, dtype=np.uint8))


def files(*shades):
    return [("files", (f"{shade}.png", photo(shade), "image/png")) for shade in shades]


def pictures(folder, name, base, count=5):
    """Write noisy pictures of one shade, and list their paths."""
    rng, paths = np.random.default_rng(base), []
    for number in range(count):
        pixels = np.clip(base + rng.integers(-20, 20, (40, 40, 3)), 0, 255).astype(np.uint8)
        paths.append(folder / f"{name} {number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths
