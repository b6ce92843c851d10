"""Someone with a data frame of files and breeds: one call learns from it, another adds a column of predictions."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from tip_adapter import ImageClassifier

COLORS = {"akita": (200, 60, 40), "pug": (60, 200, 40), "whippet": (40, 60, 200)}


def write_photos(folder: Path) -> pd.DataFrame:
    """Write twelve photos of each breed, and list them in a frame whose rows are mixed and whose index is no count."""
    rng, rows = np.random.default_rng(0), []
    for breed, color in COLORS.items():
        for number in range(12):
            path = folder / f"{breed}-{number}.png"
            Image.fromarray(np.uint8(np.array(color) + rng.integers(-40, 40, (48, 40, 3)))).save(path)
            rows.append({"file_name": str(path), "breed": breed, "year": 2000 + number})
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        frame = write_photos(Path(folder))
        known, new = frame[frame.year < 2008], frame[frame.year >= 2008].copy()

        classifier = ImageClassifier("fake", store=None).fit(known)
        new["predicted"] = classifier.predict(new)

        right = (new.predicted == new.breed).mean()
        print(new[["breed", "predicted"]].to_string(), f"\n{100 * right:.1f} % of {len(new)} photos are right")
        assert right == classifier.evaluate(new).accuracy == 1.0


if __name__ == "__main__":
    main()
