"""Someone has a zip of folders, one for each class, made on a Mac: `tip-adapter fit drinks.zip` does it."""

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
from PIL import Image

COLORS = {"café crème": (200, 160, 120), "green tea": (90, 190, 90), "red wine": (130, 20, 40)}
SAID = """\
data: drinks.zip: 3 classes, splits train and test; train is taken (--split NAME takes another, --split none the \
folders for classes)
data: passed over: 1 file without a picture (1 .mov), such as drinks.zip/my drinks/train/red wine/film.mov
"""


def photo(name, number):
    grain = np.random.default_rng(number).integers(-20, 20, (40, 48, 3))
    data = io.BytesIO()
    Image.fromarray(np.clip(np.array(COLORS[name]) + grain, 0, 255).astype(np.uint8)).save(data, "JPEG")
    return data.getvalue()


def tip_adapter(*arguments):
    done = subprocess.run([sys.executable, "-m", "tip_adapter", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


# A folder around all, the Mac's own files beside the photos, a read-me, a film.
with zipfile.ZipFile("drinks.zip", "w") as archive:
    for number in range(6):
        split = "test" if number > 3 else "train"
        for name in COLORS:
            archive.writestr(f"my drinks/{split}/{name}/IMG_{number}.jpg", photo(name, number))
            archive.writestr(f"__MACOSX/my drinks/{split}/{name}/._IMG_{number}.jpg", b"\0\5\26\7")
    archive.writestr("my drinks/.DS_Store", b"x")
    archive.writestr("my drinks/train/red wine/film.mov", b"\0\0\0\x14ftypqt  ")
    archive.writestr("my drinks/README.txt", b"from my phone")

out, err = tip_adapter("fit", "drinks.zip", "-e", "fake", "-m", "tip-adapter", "-o", "drinks.tip")
assert out.startswith("12 shots of 3 classes"), out
assert err == SAID, err
assert json.loads(tip_adapter("evaluate", "drinks.tip", "drinks.zip", "--json")[0])["accuracy"] == 1.0
assert "green tea" in tip_adapter("predict", "drinks.tip", "drinks.zip/my drinks/test/green tea/IMG_5.jpg")[0]
