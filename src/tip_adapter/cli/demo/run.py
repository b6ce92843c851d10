"""Fit and measure zero-shot, Tip-Adapter and `auto` on the same shots, and explain one prediction."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tip_adapter.classifier import ImageClassifier
from tip_adapter.cli.demo.words import search_in_words, texts_in_words
from tip_adapter.data import ImageDataset, load_splits
from tip_adapter.data.sampling import sample_shots
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import DatasetError
from tip_adapter.explain.explanation import Explanation
from tip_adapter.progress import progress_bar
from tip_adapter.report import ComparedMethod, ExplainedPhoto
from tip_adapter.trust.evaluation import Evaluation
from tip_adapter.trust.metrics import wilson_interval
from tip_adapter.typing import StrPath


@dataclass(frozen=True, eq=False)
class DemoResult:
    """What the demo measured."""

    classifier: ImageClassifier
    """Fitted with `auto`."""
    evaluation: Evaluation
    """Of this classifier."""
    compared: tuple[ComparedMethod, ...]
    """Zero-shot, the shots alone, Tip-Adapter and `auto`."""
    encoding_seconds: float
    """Until all photos were encoded."""
    search: str
    """What Tip-Adapter's search for α and β found, in words."""
    texts: str | None
    """What the shots say against the class texts; None where they are good enough."""
    explanation: Explanation
    """Of one query."""

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; fractions, not per cent."""
        return {
            "compared": [asdict(row) for row in self.compared],
            "encoding_seconds": self.encoding_seconds,
            "search": self.search,
            "texts": self.texts,
            "explanation": self.explanation.to_dict(),
            "evaluation": self.evaluation.to_dict(),
        }


def run_demo(
    train: ImageDataset,
    test: ImageDataset,
    encoder: str,
    class_texts: Mapping[str, Sequence[str]] | None = None,
    *,
    title: str = "Tip-Adapter on photos",
    report: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> DemoResult:
    """Learn from a few shots, measure on other photos, and say what was found."""
    zero_shot = ImageClassifier(load_encoder(encoder), "zero-shot", class_texts=class_texts)
    for line in train.findings.lines:
        tell(f"data: {line}")
    start = time.perf_counter()
    with progress_bar("Encoding shots") as progress:
        zero_shot.fit(train, progress=progress)
    with progress_bar("Encoding queries") as progress:
        zero_shot_evaluation = zero_shot.evaluate(test, progress=progress)
    encoding_seconds = time.perf_counter() - start
    count = len(train) + len(test)
    tell(
        f"{count} photos and {len(train.class_names)} class texts encoded by {encoder} in {encoding_seconds:.1f} s "
        f"({count / encoding_seconds:.0f} photos/s)"
    )
    tip_adapter, tip_evaluation, tip_seconds = _fitted(zero_shot, "tip-adapter", train, test)
    auto, evaluation, auto_seconds = _fitted(zero_shot, "auto", train, test)
    compared = [_compared("zero-shot", "the texts alone", zero_shot_evaluation, None)]
    if tip_evaluation.cache_accuracy is not None:
        right = round(tip_evaluation.cache_accuracy * tip_evaluation.n)
        interval = wilson_interval(right, tip_evaluation.n)
        compared.append(ComparedMethod("shots alone", "no texts", tip_evaluation.cache_accuracy, interval, None))
    compared.append(_compared("Tip-Adapter", "texts and shots", tip_evaluation, tip_seconds))
    compared.append(_compared("auto", "the default", evaluation, auto_seconds))
    result = DemoResult(
        auto,
        evaluation,
        tuple(compared),
        encoding_seconds,
        search_in_words(tip_adapter.model_),
        texts_in_words(tip_adapter.model_),
        _telling_explanation(auto, test),
    )
    if report is not None:
        photo = ExplainedPhoto.read(result.explanation)
        notes = {"search": result.search} | ({"texts": result.texts} if result.texts else {})
        auto.report(report, test, title=title, compared=compared, explained=photo, notes=notes)
    return result


def support_and_queries(photos: StrPath, shots: int, random_state: int = 0) -> tuple[ImageDataset, ImageDataset]:
    """Draw the shots, and take as queries the split test, or else the other photos."""
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
            f"Expected at least 2 photos in every class, one to learn from and one to measure on, got 1 of {name}: "
            "add photos, or remove the class"
        )
    chosen = sample_shots(everything.labels, min(shots, smallest - 1), random_state=random_state)
    rest = np.setdiff1d(np.arange(len(everything)), chosen)
    return everything.subset(chosen), everything.subset(rest)


def _fitted(
    like: ImageClassifier, method: str, train: ImageDataset, test: ImageDataset
) -> tuple[ImageClassifier, Evaluation, float]:
    """Fit a method and measure it, with the seconds that fitting took once the photos were encoded."""
    classifier = ImageClassifier(like.encoder, method, class_texts=like.class_texts)
    start = time.perf_counter()
    classifier.fit(train)
    seconds = time.perf_counter() - start
    return classifier, classifier.evaluate(test), seconds


def _compared(name: str, note: str, evaluation: Evaluation, seconds: float | None) -> ComparedMethod:
    return ComparedMethod(name, note, evaluation.accuracy, evaluation.accuracy_interval, seconds)


def _telling_explanation(classifier: ImageClassifier, test: ImageDataset) -> Explanation:
    """Explain the surest right prediction that the texts alone get wrong; else the surest right one, or the first."""
    found = classifier.explain(list(test.paths))
    right = [why for why, label in zip(found, test.labels, strict=True) if why.answer == test.class_names[label]]
    corrected = [why for why in right if why.text_answer != why.answer]
    return max(corrected or right or found[:1], key=lambda why: why.probability)
