"""Real photos in, the whole job shown: zero-shot, shots alone and Tip-Adapter with accuracy, seconds, and a picture."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tip_adapter.classifier import ImageClassifier
from tip_adapter.data import ImageDataset, load_splits
from tip_adapter.data.sampling import sample_shots
from tip_adapter.errors import DatasetError
from tip_adapter.features.extraction import extract_features
from tip_adapter.report.pictures import EvidenceRow, save_evidence
from tip_adapter.storage.atomic import write_folder
from tip_adapter.trust.evaluation import Evaluation
from tip_adapter.typing import FloatArray, StrPath

__all__ = ["DIGIT_TEXTS", "DemoResult", "run_demo", "write_digits"]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_TEXTS = {name: f"the handwritten digit {name}" for name in DIGITS}
DIGIT_SIDE, DIGIT_MARGIN = 64, 10
TEST_DIGITS_PER_CLASS = 40
SHOWN_QUERIES = 6
SHOWN_SHOTS = 3


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What the demo measured.

    Attributes
    ----------
    classifier : ImageClassifier
    evaluation : Evaluation
    n_shots : int
        Per class, the least.
    fit_seconds : float
        From the photos to the classifier, encoding included.
    evaluate_seconds : float
    picture : Path
    """

    classifier: ImageClassifier
    evaluation: Evaluation
    n_shots: int
    fit_seconds: float
    evaluate_seconds: float
    picture: Path


def write_digits(folder: Path) -> Path:
    """Write scikit-learn's handwritten digits as class folders of PNG photos.

    Parameters
    ----------
    folder : Path
        Is made, with train/ and test/ in it; what an earlier call wrote is replaced.

    Returns
    -------
    Path
        The folder.

    References
    ----------
    Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    contents = {}
    for label, name in enumerate(DIGITS):
        for rank, index in enumerate(np.flatnonzero(digits.target == label)):
            split = "test" if rank < TEST_DIGITS_PER_CLASS else "train"
            contents[f"{split}/{name}/{rank:03d}.png"] = _png(digits.images[index])
    write_folder(folder, contents)
    return folder


def _png(pixels: FloatArray) -> bytes:
    """Dark ink on white paper with a margin, as people write."""
    ink = Image.fromarray((255 - pixels * 255 / 16).astype(np.uint8)).resize((DIGIT_SIDE, DIGIT_SIDE))
    paper = Image.new("L", (DIGIT_SIDE + 2 * DIGIT_MARGIN, DIGIT_SIDE + 2 * DIGIT_MARGIN), 255)
    paper.paste(ink, (DIGIT_MARGIN, DIGIT_MARGIN))
    buffer = io.BytesIO()
    paper.save(buffer, "PNG")
    return buffer.getvalue()


def run_demo(
    photos: StrPath,
    classifier: ImageClassifier,
    *,
    shots: int = 16,
    random_state: int = 0,
    picture: Path,
    tell: Callable[[str], None],
) -> DemoResult:
    """Fit on a few shots per class, measure on the rest, and draw some answers with their nearest shots.

    Parameters
    ----------
    photos : path-like
        A folder of class folders or a manifest; its splits train and test are used where it has them.
    classifier : ImageClassifier
        Not fitted yet.
    shots : int, default=16
        Per class, at most; without splits at least one photo per class is kept to measure on.
    random_state : int, default=0
    picture : Path
        The file to draw.
    tell : callable
        Is told what goes on, a line at a time.

    Returns
    -------
    DemoResult

    Raises
    ------
    DatasetError
        When there is nothing to measure on.
    """
    train, test = _support_and_queries(photos, shots, random_state)
    counts = np.bincount(train.labels)
    tell(f"{len(train)} shots of {len(train.class_names)} classes, {len(test)} other photos to measure on")
    start = time.perf_counter()
    classifier.fit(train, random_state=random_state)
    fit_seconds = time.perf_counter() - start
    start = time.perf_counter()
    evaluation = classifier.evaluate(test)
    evaluate_seconds = time.perf_counter() - start
    save_evidence(picture, _evidence(classifier, test, random_state))
    return DemoResult(classifier, evaluation, int(counts[counts > 0].min()), fit_seconds, evaluate_seconds, picture)


def _support_and_queries(photos: StrPath, shots: int, random_state: int) -> tuple[ImageDataset, ImageDataset]:
    splits = load_splits(photos)
    if "train" in splits and "test" in splits:
        train, test = splits["train"], splits["test"]
        chosen = sample_shots(train.labels, shots, random_state=random_state, at_most=True)
        return train.subset(chosen), test
    everything = splits[next(iter(splits))]
    smallest = int(np.bincount(everything.labels).min())
    if smallest < 2:
        name = everything.class_names[int(np.bincount(everything.labels).argmin())]
        raise DatasetError(
            f"Expected at least 2 photos in every class, one to learn from and one to measure on: {name}."
        )
    chosen = sample_shots(everything.labels, min(shots, smallest - 1), random_state=random_state)
    rest = np.setdiff1d(np.arange(len(everything)), chosen)
    return everything.subset(chosen), everything.subset(rest)


def _evidence(classifier: ImageClassifier, test: ImageDataset, random_state: int) -> Sequence[EvidenceRow]:
    """A few queries, mistakes among them, each with the shots nearest to it."""
    rng = np.random.default_rng(random_state)
    chosen = np.sort(rng.choice(len(test), size=min(SHOWN_QUERIES, len(test)), replace=False))
    queries = test.subset(chosen)
    answers = [prediction.top[0][0] for prediction in classifier.predict_top(queries.paths)]
    features = extract_features(classifier.encoder, queries.paths).features.unit
    shots = classifier.model_.shots
    cosines = features @ shots.features.unit.T
    rows = []
    for index, answer in enumerate(answers):
        nearest = np.argsort(-cosines[index])[:SHOWN_SHOTS]
        pictures = [
            (shots.thumbnails[shots.ids[shot]], classifier.class_names[shots.labels[shot]], float(cosines[index, shot]))
            for shot in nearest
        ]
        rows.append(EvidenceRow(queries.paths[index], answer, test.class_names[queries.labels[index]], pictures))
    return rows
