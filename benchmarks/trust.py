"""How far answers can be trusted: calibration, sets of classes, unknown photos, flipped labels; from the shots alone.

Usage: python benchmarks/trust.py ../shared/data [--parts calibration unknown doctor]

Real CLIP ViT-B/32 features of Stanford Cars and Caltech (60 classes), and photos of clothes with `lite-fast`. Cars and
Caltech have one support set of 16 shots; seeds draw 12 of the 16. On clothes seeds draw 16 of 32 shots.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from provenance import write_result
from tip_adapter.data.sampling import sample_shots
from tip_adapter.heads import softmax, zero_shot_logits
from tip_adapter.methods import METHODS
from tip_adapter.methods.left_out import left_out_logits
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.conformal import prediction_sets
from tip_adapter.trust.doctor import contradicted, diagnose
from tip_adapter.trust.duplicates import Photos
from tip_adapter.trust.metrics import accuracy, bootstrap_interval, expected_calibration_error
from tip_adapter.trust.out_of_distribution import familiarity_parts

METHOD_NAMES = ("tip-adapter", "gda", "auto")
SEEDS = 5
COVERAGE, FALSE_ALARMS = 0.9, 0.05


@dataclass(frozen=True)
class Data:
    """Features of a set, and how many of its shots a seed draws."""

    name: str
    weights: np.ndarray
    scale: float
    support: np.ndarray
    support_labels: np.ndarray
    queries: np.ndarray
    labels: np.ndarray
    drawn: int
    whole: bool

    def draws(self) -> Iterator[tuple[str, np.ndarray]]:
        """The whole support set where it has 16 shots, then a part of it for every seed."""
        if self.whole:
            yield "all 16 shots", np.arange(len(self.support_labels))
        for seed in range(SEEDS):
            yield f"seed {seed}", sample_shots(self.support_labels, self.drawn, random_state=seed)


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
            12,
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
    return Data("clothing", weights, scale, features[0], labels[0], features[1], labels[1], 16, False)


@dataclass(frozen=True)
class Answers:
    """What a fitted method says to the queries, and what it learned from its own shots."""

    logits: np.ndarray
    calibration: Calibration
    keys: np.ndarray
    key_labels: np.ndarray


def answer(data: Data, method: str, rows: np.ndarray, weights: np.ndarray, labels: np.ndarray) -> Answers:
    keys = data.support[rows]
    estimator = METHODS[method](weights, logit_scale=data.scale).fit(keys, labels)
    out = left_out_logits(estimator, keys, labels)
    parts = keys[out.rows], keys, labels
    folds = out.folds[out.rows], out.folds
    calibration = Calibration.of(out.logits, out.labels, parts, folds=folds, shots=out.shots)
    return Answers(estimator.logits(data.queries), calibration, keys, labels)


def calibration_and_coverage(data: Data, method: str) -> list[dict[str, object]]:
    rows = []
    for draw, chosen in data.draws():
        told = answer(data, method, chosen, data.weights, data.support_labels[chosen])
        probabilities = softmax(told.logits / told.calibration.temperature)
        row: dict[str, object] = {
            "draw": draw,
            "accuracy": accuracy(told.logits, data.labels),
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
                    "interval": bootstrap_interval(held),
                    "mean_size": float(sets.sum(axis=1).mean()),
                }
        rows.append(row)
    return rows


def auroc(known: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(known, scores))


def unknown(data: Data, method: str) -> list[dict[str, float]]:
    """A quarter of the classes is taken out of the classifier; its photos are the unknown ones."""
    rows, n_classes = [], len(data.weights)
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(n_classes)
        kept = np.sort(order[: n_classes - round(n_classes / 4)])
        chosen = sample_shots(data.support_labels, 16, random_state=seed)
        chosen = chosen[np.isin(data.support_labels[chosen], kept)]
        weights = data.weights[kept]
        told = answer(data, method, chosen, weights, np.searchsorted(kept, data.support_labels[chosen]))
        probabilities = softmax(told.logits / told.calibration.temperature)
        signs = familiarity_parts(probabilities, data.queries, told.keys, told.key_labels)
        scores, known = told.calibration.familiarity.score(signs), np.isin(data.labels, kept)
        text = softmax(zero_shot_logits(data.queries, weights, data.scale, len(weights))).max(axis=1)
        turned_away = scores < told.calibration.familiarity.threshold(FALSE_ALARMS)
        rows.append(
            {
                "auroc": auroc(known, scores),
                "auroc_zero_shot": auroc(known, text),
                "auroc_probability": auroc(known, probabilities.max(axis=1)),
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
    error = values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} ± {error:.3f}"


def show_calibration(data: Data, method: str, rows: list[dict]) -> None:
    for label, part in (
        ("16 shots", rows[:1] if data.whole else []),
        (f"{SEEDS} draws of {data.drawn}", rows[data.whole :]),
    ):
        if not part:
            continue
        ece = [np.mean([row[key] for row in part]) for key in ("ece_before", "ece")]
        sets = " ".join(
            f"{kind} {np.mean([row[kind]['coverage'] for row in part]):.3f}"
            f" ({np.mean([row[kind]['mean_size'] for row in part]):.2f} classes)"
            for kind in ("lac", "aps", "lac_empty", "aps_empty")
        )
        print(f"{data.name:13} {method:11} {label:14} ECE {ece[0]:.3f} → {ece[1]:.3f}; coverage {sets}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", nargs="+", default=["calibration", "unknown", "doctor"])
    parser.add_argument("--sets", nargs="+", default=["stanford_cars", "caltech60", "clothing"])
    arguments = parser.parse_args()
    figures: dict[str, dict[str, object]] = {part: {} for part in arguments.parts}
    for data in load_all(arguments.folder):
        if data.name not in arguments.sets:
            continue
        for method in METHOD_NAMES:
            if "calibration" in figures:
                rows = calibration_and_coverage(data, method)
                figures["calibration"][f"{data.name}/{method}"] = rows
                show_calibration(data, method, rows)
            if "unknown" in figures:
                rows = unknown(data, method)
                figures["unknown"][f"{data.name}/{method}"] = rows
                told = ", ".join(f"{key} {mean(rows, key)}" for key in rows[0])
                print(f"{data.name:13} {method:11} unknown: {told}", flush=True)
        for how in ("at random", "to the most similar class"):
            if "doctor" in figures:
                rows = doctor(data, how)
                figures["doctor"][f"{data.name}/{how}"] = rows
                told = ", ".join(f"{key} {mean(rows, key)}" for key in list(rows[0])[:4])
                print(f"{data.name:13} flipped {how}: {told}", flush=True)
    write_result("trust", figures)


if __name__ == "__main__":
    main()
