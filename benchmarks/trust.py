"""How far answers can be trusted: calibration, sets of classes, unknown photos, flipped labels; from the shots alone.

Usage: python benchmarks/trust.py ../shared/data [--parts calibration full unknown doctor] [--keep]

Real CLIP ViT-B/32 features of Stanford Cars and Caltech (60 classes), and photos of clothes with `lite-fast`. Seeds
draw 2, 4 and 16 shots; Cars and Caltech have one support set of 16. Their shots are means of ten views, and single ones
are not known, so that left-out shots are easier than test photos. Caltech's test photos are not spread over the classes
as the shots are: three of 60 classes hold a third of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from provenance import RESULTS, write_result
from tip_adapter.data.sampling import sample_shots
from tip_adapter.methods import METHODS
from tip_adapter.methods.heads import softmax, zero_shot_logits
from tip_adapter.methods.left_out import left_out_logits
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.conformal import prediction_sets
from tip_adapter.trust.doctor import contradicted, diagnose
from tip_adapter.trust.duplicates import Photos
from tip_adapter.trust.full_conformal import FullConformal
from tip_adapter.trust.metrics import accuracy, bootstrap_interval, expected_calibration_error
from tip_adapter.trust.out_of_distribution import familiarity_parts

METHOD_NAMES = ("tip-adapter", "gda", "auto")
SEEDS = 5
SHOTS = (2, 4, 16)
COVERAGE, FALSE_ALARMS = 0.9, 0.1


@dataclass(frozen=True)
class Data:
    """Features of a set, and whether its shots are means of views."""

    name: str
    weights: np.ndarray
    scale: float
    support: np.ndarray
    support_labels: np.ndarray
    queries: np.ndarray
    labels: np.ndarray
    means: bool

    def draws(self, shots: int) -> Iterator[np.ndarray]:
        """Rows of the support sets, all that there are where one seed is as good as another."""
        every = np.bincount(self.support_labels).max() == shots
        for seed in range(1 if every else SEEDS):
            yield sample_shots(self.support_labels, shots, random_state=seed)


def load_all(folder: Path, encoder: str = "lite-fast") -> Iterator[Data]:
    for name in ("stanford_cars", "caltech60"):
        with np.load(folder / "clip-vit-b32" / f"{name}.npz", allow_pickle=False) as file:
            part = {key: file[key] for key in file.files}
        yield Data(
            name,
            part["zero_shot_weights"],
            100.0,
            part["support_16_features"].astype(np.float32),
            part["support_16_labels"].astype(np.intp),
            part["test_features"].astype(np.float32),
            part["test_labels"].astype(np.intp),
            True,
        )
    yield clothing(folder / "clothing", encoder)


def clothing(folder: Path, encoder_name: str) -> Data:
    from tip_adapter.data import load_dataset
    from tip_adapter.encoders import load_encoder
    from tip_adapter.features.extraction import extract_features
    from tip_adapter.features.prompts import load_class_texts, resolve_templates, texts_for, zero_shot_weights
    from tip_adapter.features.store import FeatureStore

    encoder, sets = load_encoder(encoder_name), [load_dataset(folder / split) for split in ("train", "test")]
    with FeatureStore() as store:
        features = [extract_features(encoder, part.paths, store=store).features.unit for part in sets]
    texts = texts_for(sets[0].class_names, load_class_texts(folder / "class_names.json"))
    weights = zero_shot_weights(encoder, texts, resolve_templates("ensemble"))
    labels = [part.labels for part in sets]
    scale = float(encoder.logit_scale)
    return Data("clothing", weights, scale, features[0], labels[0], features[1], labels[1], False)


@dataclass(frozen=True)
class Answers:
    """What a fitted method says to the queries, and what it learned from its own shots."""

    logits: np.ndarray
    calibration: Calibration
    keys: np.ndarray
    key_labels: np.ndarray
    folds: np.ndarray


def answer(data: Data, method: str, rows: np.ndarray, weights: np.ndarray, labels: np.ndarray) -> Answers:
    keys = data.support[rows]
    estimator = METHODS[method](weights, logit_scale=data.scale).fit(keys, labels)
    out = left_out_logits(estimator, keys, labels)
    parts = keys[out.rows], keys, labels
    folds, fewer = (out.folds[out.rows], out.folds), None if data.means else out.fewer
    calibration = Calibration.of(out.logits, out.labels, parts, folds=folds, shots=out.shots, fewer=fewer)
    return Answers(estimator.logits(data.queries), calibration, keys, labels, out.folds)


def calibration_and_coverage(data: Data, method: str, shots: int) -> list[dict[str, object]]:
    rows = []
    for chosen in data.draws(shots):
        told = answer(data, method, chosen, data.weights, data.support_labels[chosen])
        probabilities = softmax(told.logits / told.calibration.temperature)
        row: dict[str, object] = {
            "accuracy": accuracy(told.logits, data.labels),
            "promised": float(np.mean(told.calibration.scores.ahead == 0)),
            "temperature": told.calibration.temperature,
            "ece_before": expected_calibration_error(softmax(told.logits), data.labels),
            "ece": expected_calibration_error(probabilities, data.labels),
        }
        shares = np.random.default_rng(0).random(len(data.labels))
        for kind in ("lac", "aps"):
            for empty in (False, True):
                threshold = told.calibration.scores.threshold(COVERAGE, kind, allow_empty=empty)
                sets = prediction_sets(probabilities, threshold, kind, allow_empty=empty, shares=shares)
                held = sets[np.arange(len(data.labels)), data.labels]
                row[f"{kind}{'_empty' if empty else ''}"] = {
                    "coverage": float(held.mean()),
                    "coverage_of_classes_alike": float(np.nanmean(per_class(held, data.labels))),
                    "interval": bootstrap_interval(held),
                    "mean_size": float(sets.sum(axis=1).mean()),
                }
        rows.append(row)
    return rows


def per_class(held: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of every class's photos: shots are drawn from all alike, test photos as they come."""
    counts = np.bincount(labels)
    return np.where(counts > 0, np.bincount(labels, held), np.nan) / np.maximum(counts, 1)


def full(data: Data, shots: int) -> list[dict[str, float]]:
    """Full conformal sets of the published cache, α = 1 and β = 5.5, for at most 400 photos."""
    rows = []
    asked = np.random.default_rng(0).permutation(len(data.labels))[:400]
    for chosen in data.draws(shots):
        method = METHODS["tip-adapter"](data.weights, logit_scale=data.scale, alpha=1.0, beta=5.5)
        head = method.fit(data.support[chosen], data.support_labels[chosen]).head_
        start = time.perf_counter()
        conformal = FullConformal.of(head)
        built = time.perf_counter()
        sets = conformal.sets(data.queries[asked], COVERAGE)
        seconds = time.perf_counter() - built
        rows.append(
            {
                "coverage": float(sets[np.arange(len(asked)), data.labels[asked]].mean()),
                "mean_size": float(sets.sum(axis=1).mean()),
                "seconds_once": built - start,
                "ms_per_query": 1000 * seconds / len(asked),
            }
        )
    return rows


def auroc(known: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(known, scores))


def unknown(data: Data, method: str, shots: int) -> list[dict[str, float]]:
    """A quarter of the classes is taken out of the classifier; its photos are the unknown ones."""
    rows, n_classes = [], len(data.weights)
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(n_classes)
        kept = np.sort(order[: n_classes - round(n_classes / 4)])
        chosen = sample_shots(data.support_labels, shots, random_state=seed)
        chosen = chosen[np.isin(data.support_labels[chosen], kept)]
        weights = data.weights[kept]
        told = answer(data, method, chosen, weights, np.searchsorted(kept, data.support_labels[chosen]))
        probabilities = softmax(told.logits / told.calibration.temperature)
        signs = familiarity_parts(probabilities, data.queries, told.keys, told.key_labels, told.folds)
        scores, known = told.calibration.familiarity.score(signs), np.isin(data.labels, kept)
        text = softmax(zero_shot_logits(data.queries, weights, data.scale, len(weights))).max(axis=1)
        turned_away = scores < told.calibration.familiarity.threshold(FALSE_ALARMS)
        rows.append(
            {
                "auroc": auroc(known, scores),
                "auroc_zero_shot": auroc(known, text),
                "auroc_probability": auroc(known, probabilities.max(axis=1)),
                "auroc_nearest": auroc(known, (data.queries @ told.keys.T).max(axis=1)),
                "false_alarms": float(turned_away[known].mean()),
                "unknown_found": float(turned_away[~known].mean()),
            }
        )
    return rows


def doctor(data: Data, how: str) -> list[dict[str, float]]:
    """5 % of the labels become wrong: any other class, or the class whose text is the most similar."""
    rows, n_classes = [], len(data.weights)
    alike = data.weights @ data.weights.T
    np.fill_diagonal(alike, -np.inf)
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        chosen = sample_shots(data.support_labels, 16, random_state=seed)
        labels = data.support_labels[chosen].copy()
        wrong = rng.choice(len(labels), round(0.05 * len(labels)), replace=False)
        others = (labels[wrong] + rng.integers(1, n_classes, len(wrong))) % n_classes
        labels[wrong] = others if how == "at random" else alike.argmax(axis=1)[labels[wrong]]
        names = tuple(str(index) for index in range(len(labels)))
        photos = Photos(data.support[chosen], labels, names, names)
        found = {
            shot.index for shot in diagnose(photos, [str(n) for n in range(n_classes)], data.weights, data.scale).labels
        }
        hits = len(found & set(wrong.tolist()))
        text = softmax(zero_shot_logits(photos.features, data.weights, data.scale, n_classes))
        by_text = set(np.flatnonzero(contradicted(text, labels)).tolist())
        rows.append(
            {
                "found": hits / len(wrong),
                "precision": hits / max(len(found), 1),
                "found_by_text": len(by_text & set(wrong.tolist())) / len(wrong),
                "precision_by_text": len(by_text & set(wrong.tolist())) / max(len(by_text), 1),
                "flipped": len(wrong),
            }
        )
    return rows


def mean(rows: list[dict[str, float]], key: str) -> str:
    values = np.array([row[key] for row in rows])
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{values.mean():.3f} ± {error:.3f}"


def show_calibration(name: str, rows: list[dict]) -> None:
    ece = [np.mean([row[key] for row in rows]) for key in ("ece_before", "ece")]
    sets = " ".join(
        f"{kind} {np.mean([row[kind]['coverage'] for row in rows]):.3f}"
        f" ({np.mean([row[kind]['mean_size'] for row in rows]):.2f} classes)"
        for kind in ("lac", "aps", "lac_empty", "aps_empty")
    )
    right = [np.mean([row[key] for row in rows]) for key in ("promised", "accuracy")]
    print(f"{name}: {right[0]:.3f} promised, {right[1]:.3f} right; ECE {ece[0]:.3f} → {ece[1]:.3f}; coverage {sets}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", nargs="+", default=["calibration", "full", "unknown", "doctor"])
    parser.add_argument("--sets", nargs="+", default=["stanford_cars", "caltech60", "clothing"])
    parser.add_argument("--keep", action="store_true", help="keep what results/trust.json has of other parts and sets")
    arguments = parser.parse_args()
    former = json.loads((RESULTS / "trust.json").read_text())["figures"] if arguments.keep else {}
    figures: dict[str, dict[str, object]] = {part: former.get(part, {}) for part in arguments.parts}
    for data in load_all(arguments.folder):
        if data.name not in arguments.sets:
            continue
        for method, shots in product(METHOD_NAMES, SHOTS):
            name = f"{data.name}/{method}/{shots}"
            if "calibration" in figures:
                figures["calibration"][name] = calibration_and_coverage(data, method, shots)
                show_calibration(name, figures["calibration"][name])
            if "unknown" in figures:
                rows = figures["unknown"][name] = unknown(data, method, shots)
                print(f"{name}: {', '.join(f'{key} {mean(rows, key)}' for key in rows[0])}", flush=True)
        for shots in SHOTS if "full" in figures else ():
            rows = figures["full"][f"{data.name}/{shots}"] = full(data, shots)
            print(f"{data.name}/{shots} full: {', '.join(f'{key} {mean(rows, key)}' for key in rows[0])}", flush=True)
        for how in ("at random", "to the most similar class"):
            if "doctor" in figures:
                rows = doctor(data, how)
                figures["doctor"][f"{data.name}/{how}"] = rows
                told = ", ".join(f"{key} {mean(rows, key)}" for key in list(rows[0])[:4])
                print(f"{data.name:13} flipped {how}: {told}", flush=True)
    write_result("trust", former | figures)


if __name__ == "__main__":
    main()
