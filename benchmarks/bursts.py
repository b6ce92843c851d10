"""Bursts: ten frames of every shot, and what the classifier says of itself against what the test photos say.

Usage: python benchmarks/bursts.py ../shared/data/clothing [--encoder lite-fast] [--draws 3] [--frames 10]
           [--jitter mild medium strong] [--shots 1 2 4 8] [--groups apart found given] [--keep]

Of K photos a class ten frames each are made: a crop of most of the photo, turned a little, lighter or darker, with
noise. The classifier is fitted three times: each frame on its own ("apart"), groups found by itself ("found"), and
groups given ("given"). Cross-validated accuracy, coverage of 90 % sets, and the share of known photos that are turned
away at 10 % are compared with the test photos, none of which is in a burst.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from provenance import RESULTS, write_result
from tip_adapter import ImageClassifier
from tip_adapter.data import ImageDataset, load_dataset
from tip_adapter.errors import InputError

JITTER = {"mild": (0.85, 3.0, 0.1, 3.0), "medium": (0.7, 6.0, 0.2, 5.0), "strong": (0.5, 12.0, 0.35, 8.0)}
"""Smallest share of the photo, degrees, change of brightness, standard deviation of the noise."""

SHOTS = (1, 2, 4, 8)
GROUPS = ("apart", "found", "given")


def frame(photo: Image.Image, jitter: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    share, degrees, light, noise = jitter
    scale = np.sqrt(rng.uniform(share, 1))
    width, height = (int(side * scale) for side in photo.size)
    left, top = rng.integers(0, photo.size[0] - width + 1), rng.integers(0, photo.size[1] - height + 1)
    turned = photo.rotate(rng.uniform(-degrees, degrees), Image.Resampling.BILINEAR)
    lit = ImageEnhance.Brightness(turned.crop((left, top, left + width, top + height))).enhance(
        rng.uniform(1 - light, 1 + light)
    )
    return np.clip(np.asarray(lit) + rng.normal(0, noise, (height, width, 3)), 0, 255).astype(np.uint8)


def bursts(
    data: ImageDataset, shots: int, jitter: tuple[float, ...], frames: int, seed: int
) -> tuple[list[np.ndarray], list[str], list[str]]:
    """Frames, their classes, and the photo that each is of."""
    rng, images, labels, groups = np.random.default_rng(seed), [], [], []
    for column, name in enumerate(data.class_names):
        for row in rng.permutation(np.flatnonzero(data.labels == column))[:shots]:
            photo = Image.open(data.paths[row]).convert("RGB")
            images += [frame(photo, jitter, rng) for _ in range(frames)]
            labels += [name] * frames
            groups += [str(row)] * frames
    return images, labels, groups


def measure(classifier: ImageClassifier, test: ImageDataset) -> dict[str, float | None]:
    model, truth = classifier.model_, [test.class_names[label] for label in test.labels]
    right = np.array(classifier.predict(test.paths)) == truth
    stated = model.calibration
    found: dict[str, float | None] = {"test": 100 * float(right.mean()), "groups": model.shots.n_groups}
    found["cross-validated"] = 100 * float(np.mean(stated.scores.ahead == 0)) if len(stated.scores) else None
    try:
        sets = classifier.predict_set(test.paths).sets
        found["coverage"] = 100 * float(np.mean([t in dict(s.classes) for s, t in zip(sets, truth, strict=True)]))
    except InputError:  # too few groups for it
        found["coverage"] = None
    try:
        answers = classifier.predict(test.paths, none_of_these=0.1)
        found["turned away"] = 100 * float(np.mean([answer is None for answer in answers]))
    except InputError:
        found["turned away"] = None
    probabilities = classifier.predict_proba(test.paths)
    sure = probabilities.max(axis=1)
    bins = np.minimum((sure * 15).astype(int), 14)
    found["ece"] = float(sum(abs(np.sum(right[bins == b] - sure[bins == b])) for b in range(15)) / len(right))
    return found


def differences(cells: list[dict[str, float | None]]) -> dict[str, float]:
    """Cross-validated accuracy minus that on the test photos, and its standard error over the draws."""
    apart = [one["cross-validated"] - one["test"] for one in cells if one["cross-validated"] is not None]
    if len(apart) < 2:
        return {}
    return {"too high by": float(np.mean(apart)), "standard error": float(np.std(apart, ddof=1) / len(apart) ** 0.5)}


def mean_of(values: list[float | None]) -> float | None:
    """Mean of what could be told, if anything could."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="lite-fast")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--jitter", nargs="+", default=list(JITTER), choices=list(JITTER))
    parser.add_argument("--shots", nargs="+", type=int, default=SHOTS)
    parser.add_argument("--groups", nargs="+", default=GROUPS, choices=GROUPS)
    parser.add_argument("--keep", action="store_true", help="keep rows of other kinds of jitter, and say so")
    options = parser.parse_args()
    train, test = load_dataset(options.folder / "train"), load_dataset(options.folder / "test")
    rows = []
    for jitter in options.jitter:
        for shots in options.shots:
            cells: dict[str, list[dict[str, float | None]]] = {}
            for seed in range(options.draws):
                images, labels, groups = bursts(train, shots, JITTER[jitter], options.frames, seed)
                alone = [str(index) for index in range(len(images))]
                given = {"apart": alone, "found": "duplicates", "given": groups}
                for how in options.groups:
                    classifier = ImageClassifier(options.encoder).fit(images, labels, groups=given[how])
                    cells.setdefault(how, []).append(measure(classifier, test))
            for how, found in cells.items():
                row = {key: mean_of([cell[key] for cell in found]) for key in found[0]}
                rows.append({"jitter": jitter, "shots": shots, "groups_are": how, **row, **differences(found)})
                print(jitter, shots, how, rows[-1], flush=True)
    name = "bursts" if options.shots == SHOTS else "bursts_draws"
    if options.keep:
        former = json.loads((RESULTS / f"{name}.json").read_text())["figures"]["rows"]
        rows += [{"earlier": True} | row for row in former if row["jitter"] not in options.jitter]
        rows.sort(key=lambda row: list(JITTER).index(row["jitter"]))
    write_result(name, {"rows": rows, "draws": options.draws, "frames": options.frames})


if __name__ == "__main__":
    main()
