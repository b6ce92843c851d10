"""Write the exported script with this package's own decoding beside it, and check that it sees the same pixels."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from tip_adapter.data.decoding import ImageSource, load_image, read_image_bytes
from tip_adapter.data.joined_preprocessing import JoinedPreprocessing
from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.errors import TipAdapterError
from tip_adapter.export.inputs import inputs_of
from tip_adapter.typing import UInt8Array

_MAX_SAMPLES = 8
_PRINT_DIGESTS = """
import hashlib, json, sys
sys.path.insert(0, "")
from predict import views
settings, *photos = sys.argv[1:]
seen = [views(photo, json.loads(settings)) for photo in photos]
print([hashlib.sha256(b"".join(view.tobytes() for view in found.values())).hexdigest() for found in seen])
"""


def script_files() -> dict[str, bytes]:
    """Contents of the script and of the modules it needs, by name.

    Examples
    --------
    >>> from tip_adapter.export.script import script_files
    >>> sorted(script_files())[:2]
    ['escaping.py', 'pixels/__init__.py']
    """
    pixels = files("tip_adapter.data").joinpath("pixels")
    found = {f"pixels/{part.name}": part.read_bytes() for part in pixels.iterdir() if part.name.endswith(".py")}
    found["escaping.py"] = files("tip_adapter.storage").joinpath("escaping.py").read_bytes()
    found["predict.py"] = files("tip_adapter.export").joinpath("static", "predict.py").read_bytes()
    ours = ((b"tip_adapter.data.pixels", b"pixels"), (b"tip_adapter.storage.escaping", b"escaping"))
    for name in found:
        for module, beside in ours:
            found[name] = found[name].replace(module, beside)
    return found


def check_script(preprocessing: Preprocessing | JoinedPreprocessing, samples: Sequence[ImageSource] = ()) -> int:
    """Compare what the script sees with what this package sees, also in files of odd kinds, and return in how many."""
    images = [*_odd_images(), *(read_image_bytes(sample) for sample in samples[:_MAX_SAMPLES])]
    expected = [preprocessing.center_view(load_image(image, min_side=preprocessing.min_side())) for image in images]
    settings = {name: view.to_dict() for name, view in inputs_of(preprocessing).items()}
    with tempfile.TemporaryDirectory(prefix="tip-adapter-") as name:
        folder = Path(name)
        for part, content in script_files().items():
            (folder / part).parent.mkdir(exist_ok=True)
            (folder / part).write_bytes(content)
        for index, image in enumerate(images):
            (folder / str(index)).write_bytes(image)
        arguments = [json.dumps(settings), *map(str, range(len(images)))]
        done = subprocess.run(
            [sys.executable, "-c", _PRINT_DIGESTS, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
    if done.stdout.strip() != str([_digest(view) for view in expected]):
        reason = " ".join(done.stderr.split()[-30:]) or "other pixels"
        raise TipAdapterError(
            f"Expected predict.py to see the pixels of the Python classifier, got: {reason}: nothing was written, "
            "please report it"
        )
    return len(images)


def _digest(view: UInt8Array) -> str:
    return hashlib.sha256(view.tobytes()).hexdigest()


def _odd_images() -> list[bytes]:
    """12 bits in samples of 16, in PNG and TIFF; transparency; a large JPEG lying on its side."""
    rng = np.random.default_rng(0)
    depth = Image.fromarray(rng.integers(0, 4096, (40, 50), dtype=np.uint16))
    colours = Image.fromarray(rng.integers(0, 256, (30, 40, 4), dtype=np.uint8))
    lying = Image.Exif()
    lying[ExifTags.Base.Orientation] = 6
    large = colours.convert("RGB").resize((2400, 1800))
    return [
        _encoded(depth, "PNG"),
        _encoded(depth, "TIFF"),
        _encoded(colours, "PNG"),
        _encoded(large, "JPEG", exif=lying),
    ]


def _encoded(image: Image.Image, file_format: str, **options: Image.Exif) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()
