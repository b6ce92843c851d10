"""Explanations: whether text and shots are the logits on every prediction, and how long one explanation takes.

Usage: python benchmarks/explain.py ../shared/data [--shots 16] [--keys 10000] [--classes 100] [--dim 512]

Sums are checked on every test photo of the clothes (`lite-fast`) and every test feature of Stanford Cars, for every
method that promises a sum, against the logits that the classifier predicts with. Seconds are of one prediction, without
the encoder, with random keys.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from provenance import write_result
from tip_adapter import ImageClassifier
from tip_adapter.data import load_dataset
from tip_adapter.explain.explainer import Explainer
from tip_adapter.features.extraction import extract_features
from tip_adapter.features.feature_set import FeatureSet
from tip_adapter.features.prompts import load_class_texts
from tip_adapter.methods import METHODS
from tip_adapter.model.few_shot_model import EncoderRecord, FewShotModel
from tip_adapter.model.fitting import fit_method, make_estimator
from tip_adapter.model.picture_archive import Thumbnails
from tip_adapter.model.shots import Shots

EXACT = ("zero-shot", "tip-adapter", "tip-adapter-f", "tip-x", "ape", "proker", "gda", "prototype", "auto")
TOLERANCE = 1e-5
CHUNK = 200


def fit(
    method: str,
    shots: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    *,
    names: tuple[str, ...],
    scale: float,
    parameters: dict[str, float] | None = None,
) -> FewShotModel:
    """A model as a classifier holds it, from features."""
    estimator = make_estimator(method, parameters or {})
    head, record = fit_method(estimator, shots, labels, weights, scale, [(name,) for name in names])
    ids = tuple(f"{row:06d}" for row in range(len(labels)))
    features = FeatureSet(shots[:, None], "features", tuple(f"{row:064x}" for row in range(len(labels))), ids)
    return FewShotModel(
        encoder=EncoderRecord("features", "features", "features", shots.shape[1], scale),
        class_names=names,
        class_texts=tuple((name,) for name in names),
        templates=("{}",),
        zero_shot_weights=weights,
        shots=Shots(features, labels, ids, Thumbnails()),
        head=head,
        method=record,
        views=1,
        random_state=0,
    )


def check(model: FewShotModel, queries: np.ndarray) -> dict[str, float | int | bool]:
    """Text and shots of every prediction against its logits, the answer's and the runner-up's."""
    explainer, worst, exact, flipped = Explainer(model), 0.0, 0, 0
    for start in range(0, len(queries), CHUNK):
        part = queries[start : start + CHUNK]
        logits = model.head.logits(part).astype(np.float64)
        for row, why in zip(logits, explainer.explain(part, [""] * len(part)), strict=True):
            best = model.class_names.index(why.answer)
            second = model.class_names.index(why.runner_up)
            # The shots one by one: their sum, not the sum that the explanation was made from.
            shots = 0.0 if why.shot_logits is None else float(why.shot_logits.sum())
            margins = 0.0 if why.shot_margins is None else float(why.shot_margins.sum())
            error = abs(why.text.logit + shots - row[best])
            other = abs(why.text.logit - why.text.margin + shots - margins - row[second])
            worst = max(worst, error / abs(row[best]), other / max(abs(row[best]), abs(row[second])))
            exact += why.exact
            flipped += bool(why.flipping)
    return {
        "predictions": len(queries),
        "exact": exact,
        "worst_relative_error": worst,
        "holds": bool(exact == len(queries) and worst <= TOLERANCE),
        "answers_that_hang_on_one_shot": flipped,
    }


def clothing(folder: Path, shots: int, methods: list[str]) -> dict[str, object]:
    names = load_class_texts(folder / "class_names.json")
    classifier = ImageClassifier("lite-fast", "tip-adapter", class_texts=names)
    classifier.fit(load_dataset(folder / "train"), shots=shots)
    held = classifier.model_
    test = extract_features(classifier.encoder, load_dataset(folder / "test").paths).features.unit
    return {
        name: report(f"clothing {name}", held.shots.features.unit, held.shots.labels, test, name, held)
        for name in methods
    }


def report(
    title: str, shots: np.ndarray, labels: np.ndarray, queries: np.ndarray, method: str, held: FewShotModel
) -> dict[str, float | int | bool]:
    scale, names = held.encoder.logit_scale, held.class_names
    found = check(fit(method, shots, labels, held.zero_shot_weights, names=names, scale=scale), queries)
    print(
        f"{title:24} {found['predictions']:5} predictions, worst relative error {found['worst_relative_error']:.1e}, "
        f"{'holds' if found['holds'] else 'FAILS'}; {found['answers_that_hang_on_one_shot']} hang on one shot"
    )
    return found


def cars(folder: Path, shots: int, methods: list[str]) -> dict[str, object]:
    with np.load(folder / "stanford_cars.npz", allow_pickle=False) as file:
        data = {key: file[key] for key in file.files}
    keys, labels = data[f"support_{shots}_features"].astype(np.float32), data[f"support_{shots}_labels"].astype(np.intp)
    names = tuple(map(str, data["class_names"]))
    held = fit("zero-shot", unit(keys), labels, data["zero_shot_weights"], names=names, scale=100.0)
    queries = unit(data["test_features"].astype(np.float32))
    return {name: report(f"cars {name}", unit(keys), labels, queries, name, held) for name in methods}


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def seconds(keys: int, classes: int, dim: int, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of one explanation: the first, which prepares the model, and the median of those after it."""
    rng = np.random.default_rng(0)
    shots, weights = unit(rng.standard_normal((keys, dim))), unit(rng.standard_normal((classes, dim)))
    labels, names = np.arange(keys) % classes, tuple(f"class {index}" for index in range(classes))
    queries = unit(rng.standard_normal((repeats + 1, dim)))
    given: dict[str, dict[str, float]] = {
        "zero-shot": {},
        "tip-adapter": {"alpha": 1.0, "beta": 5.5},
        "tip-x": {"alpha": 1.0, "beta": 5.5, "gamma": 0.1},
        "ape": {"alpha": 1.0, "beta": 5.5, "gamma": 1.0, "channels": dim // 2},
        "proker": {"alpha": 100.0, "beta": 1.0, "ridge": 0.1},
        "gda": {"alpha": 1.0},
        "prototype": {"scale": 100.0},
    }
    found = {}
    for method, parameters in given.items():
        model = fit(method, shots, labels, weights, names=names, scale=100.0, parameters=parameters)
        explainer = Explainer(model)
        first, *rest = [timed(partial(explainer.explain, row[None], [""])) for row in queries]
        found[method] = {"first_ms": first, "median_ms": float(np.median(rest)), "largest_ms": max(rest)}
        print(f"{method:14} first {first:7.1f} ms, then {np.median(rest):6.2f} ms (at most {max(rest):.2f})")
    return found


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", nargs="+", default=[name for name in EXACT if name in METHODS])
    for name, value in (("shots", 16), ("keys", 10_000), ("classes", 100), ("dim", 512), ("repeats", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args()
    print(f"one explanation, {arguments.keys} shots of {arguments.classes} classes, {arguments.dim} dimensions")
    figures: dict[str, object] = {
        "milliseconds": seconds(arguments.keys, arguments.classes, arguments.dim, arguments.repeats)
    }
    figures["clothing"] = clothing(arguments.folder / "clothing", arguments.shots, arguments.methods)
    figures["stanford_cars"] = cars(arguments.folder / "clip-vit-b32", arguments.shots, arguments.methods)
    write_result("explain", figures)


if __name__ == "__main__":
    main()
