"""Draw the photos of the demo at random from the clothing photos, and make them small: 8 shots and 12 queries a class.

Usage: python benchmarks/demo_photos.py ../shared/data/clothing src/tip_adapter/cli/demo/clothing

Shots come from train/, queries from test/, so none is both. The draw is `default_rng(SEED)` over the sorted file names;
no photo was left out or exchanged. Pixels alone are written: no metadata of the originals, and names that are numbers.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SEED, SHOTS, QUERIES = 0, 8, 12
SIDE, QUALITY = 224, 80


def write_photo(source: Path, target: Path) -> None:
    with Image.open(source) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    scale = SIDE / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target, quality=QUALITY, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(SEED)
    for split, count in (("train", SHOTS), ("test", QUERIES)):
        for folder in sorted((arguments.source / split).iterdir()):
            photos = sorted(folder.iterdir())
            for number, index in enumerate(rng.choice(len(photos), count, replace=False), start=1):
                write_photo(photos[index], arguments.target / split / folder.name / f"{number:02d}.jpg")
    shutil.copyfile(arguments.source / "LICENSE", arguments.target / "LICENSE")
    shutil.copyfile(arguments.source / "class_names.json", arguments.target / "class_texts.json")
    written = list(arguments.target.rglob("*.jpg"))
    print(f"{len(written)} photos, {sum(path.stat().st_size for path in written) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
