"""Someone has an iPhone's folder: HEIC photos beside JPEG, films and files of edits. `tip-adapter fit DCIM` does it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"green tea": (90, 190, 90), "red wine": (130, 20, 40)}
HEIC_IS_READ = importlib.util.find_spec("pillow_heif") is not None


def save_photo(path, name, number):
    grain = np.random.default_rng(number).integers(-20, 20, (96, 80, 3))
    image = Image.fromarray(np.clip(np.array(COLORS[name]) + grain, 0, 255).astype(np.uint8))
    if path.suffix == ".JPG":
        image.save(path, "JPEG")
    elif HEIC_IS_READ:
        import pillow_heif

        pillow_heif.from_pillow(image).save(path)
    else:
        path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + f"{name} {number}".encode() * 20)


def tip_adapter(*arguments, code=0):
    done = subprocess.run([sys.executable, "-m", "tip_adapter", *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


for name in COLORS:
    folder = Path("DCIM", name)
    folder.mkdir(parents=True)
    for number in range(1, 5):
        save_photo(folder / f"IMG_{number:04}.{'HEIC' if number > 1 else 'JPG'}", name, number)
        (folder / f"IMG_{number:04}.MOV").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
        (folder / f"IMG_{number:04}.AAE").write_text('<?xml version="1.0"?><plist/>')

arguments = ("DCIM", "-e", "fake", "-m", "tip-adapter", "-o", "drinks.tip")
out, err = tip_adapter("fit", *arguments, code=0 if HEIC_IS_READ else 3)
said, _, rest = err.partition("\n")
assert said == (
    "data: passed over: 16 files without a picture (8 .aae, 8 .mov), such as DCIM/green tea/IMG_0001.AAE"
), said
if HEIC_IS_READ:
    assert out.startswith("8 shots of 2 classes"), out
else:
    # One line that names the photo, what to install, and the way to go on without such photos.
    assert rest.count("\n") == 1, rest
    assert "IMG_0002.HEIC" in rest, rest
    assert "--skip-bad" in rest, rest
    out, err = tip_adapter("fit", *arguments, "--skip-bad")
    assert out.startswith("2 shots of 2 classes"), out
    assert err.count("skipped: ") == 6, err
found = json.loads(tip_adapter("doctor", "DCIM", "-e", "fake", "--json")[0])
assert len([image for image in found["images"] if image["name"].endswith("HEIC")]) == (0 if HEIC_IS_READ else 6), found
