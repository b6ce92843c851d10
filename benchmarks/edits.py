"""How long it takes to add, remove, relabel and take back one shot among many, and how exact the result is.

Usage: python benchmarks/edits.py [--shots 10000 --classes 100 --dim 512 --repeats 30]

Times are of the public calls in memory, with Tip-Adapter's formula. Adding is timed with an encoder that has its answer
ready, so reading and shrinking the photo counts and encoding does not; "ready" adds the first prediction afterwards
less that of the next, since a new head may leave work to it. "copy" is the time to copy one array of the features: an
edit that leaves the former state untouched copies two. The processor's time stands beside the clock's: on a busy
machine it says more. Exactness is the largest relative difference between logits after 40 random edits and those of an
estimator fitted to the same shots, in another order, with the same α and β.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from provenance import write_result
from tip_adapter.classifier import ImageClassifier
from tip_adapter.encoders.fake import FakeEncoder
from tip_adapter.features.feature_set import FeatureSet
from tip_adapter.model.edits import started
from tip_adapter.model.few_shot_model import EncoderRecord, FewShotModel
from tip_adapter.model.fitting import fit_method, make_estimator
from tip_adapter.model.picture_archive import Thumbnails
from tip_adapter.model.shots import Shots, shot_ids

QUERIES = 200
EDITS = 40


class ReadyEncoder(FakeEncoder):
    """An encoder whose answers are drawn, not computed."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self._rng = np.random.default_rng(7)

    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Draw a feature for every picture."""
        return self._rng.standard_normal((len(pixels), self.dim)).astype(np.float32)


def classifier_of(arguments: argparse.Namespace) -> ImageClassifier:
    """A classifier of drawn features around class means, as encoders' features lie."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((arguments.classes, arguments.dim))
    labels = np.sort(np.arange(arguments.shots) % arguments.classes)
    raw = (means[labels] + 2 * rng.standard_normal((arguments.shots, arguments.dim))).astype(np.float32)
    weights = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
    digests = tuple(f"{rng.integers(1 << 62):064x}"[::-1] for _ in labels)
    encoder = ReadyEncoder(arguments.dim)
    features = FeatureSet(
        raw[:, None], encoder.image_id, digests, tuple(f"{index}.jpg" for index in range(len(labels)))
    )
    estimator = make_estimator("tip-adapter", {"alpha": 1.0, "beta": 5.5})
    head, record = fit_method(estimator, features.unit, labels, weights, 100.0)
    ids = shot_ids(digests)
    names = tuple(f"class {index}" for index in range(arguments.classes))
    model = FewShotModel(
        encoder=EncoderRecord(encoder.name, encoder.image_id, encoder.text_id, encoder.dim, 100.0),
        class_names=names,
        class_texts=tuple((name,) for name in names),
        templates=("a {}.",),
        zero_shot_weights=weights,
        shots=Shots(features, labels, ids, Thumbnails(dict.fromkeys(ids, b"picture" * 300))),
        head=head,
        method=record,
        views=1,
        random_state=0,
    )
    classifier = ImageClassifier(encoder, "tip-adapter", store=None)
    classifier._live.put(started(model))
    return classifier


def timed(act: Callable[[], Any]) -> np.ndarray:
    """Milliseconds of the clock and of the processor."""
    start = time.perf_counter(), time.process_time()
    act()
    return 1e3 * np.array([time.perf_counter() - start[0], time.process_time() - start[1]])


def one_round(classifier: ImageClassifier, rng: np.random.Generator, query: np.ndarray) -> dict[str, np.ndarray]:
    """Milliseconds of one edit of each kind, each ended with a prediction."""
    names, shots = classifier.class_names, classifier.model_.shots
    photo = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    some = shots.ids[rng.integers(len(shots))]
    new_class = names[rng.integers(len(names))]
    edits = {
        "remove": lambda: classifier.remove_shots([some]),
        "undo": classifier.undo,
        "add": lambda: classifier.add_shots([photo], [new_class]),
        "relabel": lambda: classifier.relabel([classifier.journal[-1].ids[0]], names[0]),
    }
    times = {}
    for name, edit in edits.items():
        times[name] = timed(edit)
        first, second = (timed(lambda: classifier.model_.head.logits(query)) for _ in range(2))
        times[f"{name}, ready"] = times[name] + np.maximum(0.0, first - second)
    times["copy"] = timed(lambda: classifier.model_.shots.features.unit.copy())
    return times


def exactness(classifier: ImageClassifier, rng: np.random.Generator, queries: np.ndarray) -> float:
    """Largest relative difference of logits to a fresh fit, after many edits."""
    names = classifier.class_names
    for number in range(EDITS):
        ids = classifier.model_.shots.ids
        some, name = ids[rng.integers(len(ids))], names[rng.integers(len(names))]
        if number % 4 == 0:
            classifier.remove_shots([some])
        elif number % 4 == 1:
            classifier.add_shots([rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)], [name])
        elif classifier.class_names[classifier.model_.shots.labels[classifier.model_.shots.rows[some]]] != name:
            classifier.relabel([some], name)
    model = classifier.model_
    order = rng.permutation(len(model.shots))
    fresh = make_estimator("tip-adapter", model.method.held)
    head, _ = fit_method(
        fresh, model.shots.features.unit[order], model.shots.labels[order], model.zero_shot_weights, 100.0
    )
    ours, theirs = model.head.logits(queries).astype(np.float64), head.logits(queries).astype(np.float64)
    return float((np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1.0)).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("shots", 10_000), ("classes", 100), ("dim", 512), ("repeats", 30)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    classifier = classifier_of(arguments)
    queries = rng.standard_normal((QUERIES, arguments.dim)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    rounds = [one_round(classifier, rng, queries[:1]) for _ in range(arguments.repeats + 1)][1:]
    times = {name: [each[name] for each in rounds] for name in rounds[0]}
    figures = {
        "shots": arguments.shots,
        "dim": arguments.dim,
        "median_ms": {name: float(np.median(values, axis=0)[0]) for name, values in times.items()},
        "largest_ms": {name: float(np.max(values, axis=0)[0]) for name, values in times.items()},
        "median_processor_ms": {name: float(np.median(values, axis=0)[1]) for name, values in times.items()},
        "largest_relative_difference": exactness(classifier, rng, queries),
        "edits": EDITS,
    }
    for name, value in figures["median_ms"].items():
        processor = figures["median_processor_ms"][name]
        print(f"{name}: {value:.1f} ms (at most {figures['largest_ms'][name]:.1f}), processor {processor:.1f} ms")
    print(f"after {EDITS} edits, largest relative difference of logits: {figures['largest_relative_difference']:.1e}")
    write_result("edits", figures)


if __name__ == "__main__":
    main()
