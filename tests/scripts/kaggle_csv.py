"""Someone has a competition's data: a table of ids and classes, two folders. `tip-adapter fit drinks` does it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"café crème": (200, 160, 120), "green tea": (90, 190, 90), "red wine": (130, 20, 40)}
NAMES = [*COLORS] * 3
DRINKS = Path("drinks")


def save_photo(path, name, number):
    grain = np.random.default_rng(number).integers(-20, 20, (40, 48, 3))
    Image.fromarray(np.clip(np.array(COLORS[name]) + grain, 0, 255).astype(np.uint8)).save(path)


def tip_adapter(*arguments, code=0):
    done = subprocess.run([sys.executable, "-m", "tip_adapter", *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


for split, first in (("train", 0), ("test", 100)):
    (DRINKS / split).mkdir(parents=True)
    for number, name in enumerate(NAMES, start=first):
        save_photo(DRINKS / split / f"{number:05}.jpg", name, number)
rows = [f"{number:05},{name}\n" for number, name in enumerate(NAMES)]
(DRINKS / "labels.csv").write_text("\ufeffid,drink\n" + "".join(rows), encoding="utf-8")
(DRINKS / "sample_submission.csv").write_text("id,café crème,green tea,red wine\n00100,.3,.3,.3\n", encoding="utf-8")

out, err = tip_adapter("fit", "drinks", "-e", "fake", "-m", "tip-adapter", "-o", "drinks.tip")
assert out.startswith("9 shots of 3 classes"), out
assert err == 'data: drinks/labels.csv: photos by "id", classes by "drink"\n', err
answers = json.loads(tip_adapter("predict", "drinks.tip", "drinks/test", "--json")[0])["predictions"]
assert [answer["class"] for answer in answers] == NAMES

# The table alone will do, too; a row without a photo is named, or left out.
(DRINKS / "train" / "00004.jpg").unlink()
_, err = tip_adapter("fit", "drinks/labels.csv", "-e", "fake", code=3)
assert "an image at drinks/00004 (row 6 of drinks/labels.csv), found none" in err, err
assert "give --skip-bad to go on without it" in err, err
out, _ = tip_adapter("fit", "drinks/labels.csv", "-e", "fake", "-m", "tip-adapter", "--skip-bad")
assert out.startswith("8 shots of 3 classes"), out
