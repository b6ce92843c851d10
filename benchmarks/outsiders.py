"""`auto` against what everybody would try first on the same features: nearest mean, kNN, logistic regression, SVM, LDA.

Usage: python benchmarks/outsiders.py ../shared/data [--sets digits clothing] [--draws 3] [--methods auto]

Real CLIP ViT-B/32 features of Stanford Cars and Caltech (60 classes); clothes and handwritten digits with `lite`. Each
with its true class texts, with the texts shuffled among the classes, and without; with 1, 2, 4, 8 and 16 shots of every
class, and with unequal ones (16 divided by the rank of the class, ranks drawn). Hyper-parameters of the others are
chosen by cross-validated accuracy on the shots, with one shot per class they are scikit-learn's defaults.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from provenance import write_result
from tip_adapter.data.sampling import sample_shots
from tip_adapter.methods import METHODS
from tip_adapter.methods.heads import softmax, zero_shot_logits

SETS = ("stanford_cars", "caltech60", "clothing", "digits")
TEXTS = ("true", "shuffled", "none")
SHOTS = ("1", "2", "4", "8", "16", "unequal")
CACHE = Path(__file__).parent / "runs" / "outsiders"
FOLDS = 4


@dataclass(frozen=True)
class Data:
    """Features of a set: what shots are drawn from, and what is asked."""

    name: str
    weights: np.ndarray
    scale: float
    pool: np.ndarray
    pool_labels: np.ndarray
    queries: np.ndarray
    labels: np.ndarray


def load(name: str, folder: Path) -> Data:
    if name in ("clothing", "digits"):
        return load_photos(name, folder / "clothing")
    with np.load(folder / "clip-vit-b32" / f"{name}.npz", allow_pickle=False) as file:
        pool, queries = (file[f"{part}_features"].astype(np.float32) for part in ("support_16", "test"))
        labels = [file[f"{part}_labels"].astype(np.intp) for part in ("support_16", "test")]
        return Data(name, file["zero_shot_weights"], 100.0, pool, labels[0], queries, labels[1])


def load_photos(name: str, clothes: Path) -> Data:
    from tip_adapter.cli.demo.photos import DIGIT_TEXTS, write_digits
    from tip_adapter.data import load_dataset
    from tip_adapter.encoders import load_encoder
    from tip_adapter.features.extraction import extract_features
    from tip_adapter.features.prompts import load_class_texts, resolve_templates, texts_for, zero_shot_weights
    from tip_adapter.features.store import FeatureStore

    encoder = load_encoder("lite-fast")
    with tempfile.TemporaryDirectory() as temporary, FeatureStore() as store:
        root = clothes if name == "clothing" else write_digits(Path(temporary) / "digits")
        # Digits are many to learn from and few to ask: the other way round tells more.
        splits = [("train",), ("test", "validation")] if name == "clothing" else [("test",), ("train",)]
        parts = []
        for group in splits:
            sets = [load_dataset(root / split) for split in group]
            features = np.concatenate([extract_features(encoder, s.paths, store=store).features.unit for s in sets])
            parts.append((features, np.concatenate([s.labels for s in sets])))
            names = sets[0].class_names
    given = load_class_texts(clothes / "class_names.json") if name == "clothing" else DIGIT_TEXTS
    weights = zero_shot_weights(encoder, texts_for(names, given), resolve_templates("ensemble"))
    (pool, pool_labels), (queries, labels) = parts
    return Data(name, weights, float(encoder.logit_scale), pool, pool_labels, queries, labels)


def draw(data: Data, shots: str, seed: int) -> np.ndarray:
    """Rows of the pool that are the shots."""
    if shots != "unequal":
        return sample_shots(data.pool_labels, int(shots), random_state=seed)
    rng = np.random.default_rng(seed)
    n_classes = len(data.weights)
    counts = np.maximum(1, np.rint(16 / (1 + rng.permutation(n_classes)))).astype(int)
    rows = [rng.permutation(np.flatnonzero(data.pool_labels == c))[:count] for c, count in enumerate(counts)]
    return np.concatenate(rows)


Scores = Callable[[np.ndarray], np.ndarray]
"""From features (B, D) to scores (B, C)."""


def nearest_mean(X: np.ndarray, y: np.ndarray, n_classes: int, _: float) -> Scores:
    means = np.stack([X[y == c].mean(axis=0) if (y == c).any() else np.zeros(X.shape[1]) for c in range(n_classes)])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return lambda queries: queries @ means.T


def neighbours(X: np.ndarray, y: np.ndarray, n_classes: int, k: float) -> Scores:
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(min(int(k), len(X)), weights="distance").fit(X, y)
    return lambda queries: spread_out(model.predict_proba(queries), model.classes_, n_classes)


def logistic(X: np.ndarray, y: np.ndarray, n_classes: int, C: float) -> Scores:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, max_iter=300, tol=1e-3).fit(X, y)
    if len(model.classes_) == 2:
        return lambda queries: spread_out(model.predict_log_proba(queries), model.classes_, n_classes)
    return lambda queries: spread_out(model.decision_function(queries), model.classes_, n_classes)


def support_vectors(X: np.ndarray, y: np.ndarray, n_classes: int, C: float) -> Scores:
    from sklearn.svm import LinearSVC

    model = LinearSVC(C=C, tol=1e-3, max_iter=2000).fit(X, y)
    return lambda queries: spread_out(model.decision_function(queries), model.classes_, n_classes)


def discriminant(X: np.ndarray, y: np.ndarray, n_classes: int, _: float) -> Scores:
    """Linear discriminant analysis on the pooled covariance with Ledoit–Wolf shrinkage."""
    from sklearn.covariance import ledoit_wolf

    classes = np.unique(y)
    means = np.stack([X[y == c].mean(axis=0) for c in classes])
    within = X - means[np.searchsorted(classes, y)]
    covariance = ledoit_wolf(within, assume_centered=True)[0] if np.any(within) else np.eye(X.shape[1])
    weights = np.linalg.solve(covariance, means.T)
    bias = -0.5 * np.einsum("cd,dc->c", means, weights)
    return lambda queries: spread_out(queries @ weights + bias, classes, n_classes)


def spread_out(scores: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    result = np.full((len(scores), n_classes), -1e9)
    result[:, classes] = scores
    return result


BASELINES: dict[str, tuple[Callable[..., Scores], tuple[float, ...]]] = {
    "nearest mean": (nearest_mean, (0.0,)),
    "kNN": (neighbours, (1, 3, 5, 9)),
    "logistic regression": (logistic, (1, 10, 100, 1000)),
    "linear SVM": (support_vectors, (1, 0.1, 10)),
    "LDA (Ledoit-Wolf)": (discriminant, (0.0,)),
}
"""What is fitted, and the values to choose from, scikit-learn's default first."""

WEIGHTS = (1.0, 0.1, 0.3, 3.0, 10.0)
"""What logistic regression's log-probabilities may count beside the zero-shot ones."""


def folds_of(y: np.ndarray) -> np.ndarray:
    ranks = np.zeros(len(y), dtype=int)
    for c in np.unique(y):
        ranks[y == c] = np.arange(np.sum(y == c))
    return ranks % FOLDS


def left_out(make: Callable[..., Scores], value: float, X: np.ndarray, y: np.ndarray, n_classes: int) -> np.ndarray:
    """Scores of every shot by a fit to the other folds."""
    folds, scores = folds_of(y), np.zeros((len(y), n_classes))
    for fold in np.unique(folds):
        out = folds == fold
        scores[out] = make(X[~out], y[~out], n_classes, value)(X[out])
    return scores


def baseline(name: str, X: np.ndarray, y: np.ndarray, n_classes: int) -> tuple[Scores, np.ndarray | None]:
    """Fit with the value of the highest cross-validated accuracy; its scores of left-out shots beside it."""
    make, values = BASELINES[name]
    if np.bincount(y).max() == 1:
        return make(X, y, n_classes, values[0]), None
    seen = {value: left_out(make, value, X, y, n_classes) for value in values if len(values) > 1}
    best = max(seen, key=lambda value: np.mean(seen[value].argmax(axis=1) == y)) if seen else values[0]
    return make(X, y, n_classes, best), seen.get(best)


def log_probabilities(scores: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(softmax(scores), 1e-12))


def cached(key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Predictions that do not depend on this project's methods are made once."""
    path = CACHE / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(path, **make())
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def baselines(data: Data, rows: np.ndarray, texts: dict[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    """Predicted classes of the queries by every baseline; those that ask the texts once for each kind of texts."""
    X, y, n_classes = data.pool[rows], data.pool_labels[rows], len(data.weights)
    found = {}
    for name in BASELINES:
        scores, seen = baseline(name, X, y, n_classes)
        found[name] = scores(data.queries).argmax(axis=1)
        if name == "logistic regression":
            for kind, weights in texts.items():
                if weights is not None:
                    zero = [zero_shot_logits(part, weights, data.scale, n_classes) for part in (X, data.queries)]
                    weight = 1.0
                    if seen is not None:
                        sums = {w: log_probabilities(zero[0]) + w * log_probabilities(seen) for w in WEIGHTS}
                        weight = max(sums, key=lambda w: np.mean(sums[w].argmax(axis=1) == y))
                    together = log_probabilities(zero[1]) + weight * log_probabilities(scores(data.queries))
                    found[f"zero-shot + logistic regression|{kind}"] = together.argmax(axis=1)
                    found[f"zero-shot|{kind}"] = zero[1].argmax(axis=1)
    return found


def texts_of(data: Data, seed: int) -> dict[str, np.ndarray | None]:
    """True texts, texts that each belong to another class, none."""
    order = np.random.default_rng(seed).permutation(len(data.weights))
    shuffled = np.empty_like(data.weights)
    shuffled[order] = data.weights[np.roll(order, 1)]
    return {"true": data.weights, "shuffled": shuffled, "none": None}


def cell(data: Data, shots: str, seed: int, methods: tuple[str, ...]) -> Iterator[dict[str, object]]:
    """Which queries every method and baseline gets right, for each kind of texts."""
    rows, texts = draw(data, shots, seed), texts_of(data, seed)
    key = f"{data.name} {shots} {seed} {hashlib.sha256(data.pool[rows].tobytes() + data.weights.tobytes()).hexdigest()}"
    others = cached(key, lambda: baselines(data, rows, texts))
    for kind, weights in texts.items():
        right = {
            name.split("|")[0]: predicted == data.labels
            for name, predicted in others.items()
            if "|" not in name or name.endswith(f"|{kind}")
        }
        seconds = {}
        for name in methods:
            start = time.perf_counter()
            method = METHODS[name](
                weights,
                logit_scale=data.scale,
                class_names=None if weights is not None else list(range(len(data.weights))),
            )
            method.fit(data.pool[rows], data.pool_labels[rows])
            seconds[name] = time.perf_counter() - start
            right[name] = method.predict(data.queries) == data.labels
        yield {"set": data.name, "texts": kind, "shots": shots, "seed": seed, "right": right, "seconds": seconds}


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % of the means of resampled queries."""
    rng = np.random.default_rng(0)
    means = [differences[rng.integers(0, len(differences), len(differences))].mean() for _ in range(1000)]
    return tuple(100 * np.percentile(means, [2.5, 97.5]))


def compare(cells: list[dict], method: str) -> list[dict[str, object]]:
    """One row for each set, kind of texts, number of shots and rival: means over the draws."""
    rows = []
    for kind in {(c["set"], c["texts"], c["shots"]): None for c in cells}:
        same = [c["right"] for c in cells if (c["set"], c["texts"], c["shots"]) == kind]
        for rival in same[0]:
            if rival != method and not (rival == "zero-shot" and kind[1] == "none"):
                # Per query, over draws: queries are what a resampling draws.
                differences = np.mean([draw[method].astype(float) - draw[rival] for draw in same], axis=0)
                low, high = interval(differences)
                rows.append(
                    dict(zip(("set", "texts", "shots"), kind, strict=True))
                    | {"rival": rival, method: 100 * float(np.mean([draw[method] for draw in same]))}
                    | {"gain": 100 * float(differences.mean()), "low": low, "high": high}
                )
    return rows


def tell(rows: list[dict], method: str) -> dict[str, object]:
    behind = [row for row in rows if row["gain"] < -0.5]
    for row in sorted(behind, key=lambda row: row["gain"]):
        place = f"{row['set']}, {row['texts']} texts, {row['shots']} shots"
        print(f"  {place:45} {row['rival']:32} {row['gain']:+6.2f} [{row['low']:+.2f}, {row['high']:+.2f}]")
    summary = {
        "comparisons": len(rows),
        "more than .5 below": len(behind),
        "share": len(behind) / len(rows),
        "clearly below by more than 1.5": int(sum(row["high"] < 0 and row["gain"] < -1.5 for row in rows)),
        "mean gain": float(np.mean([row["gain"] for row in rows])),
    }
    print(method, json.dumps(summary))
    return summary


def table(rows: list[dict], method: str) -> None:
    """Accuracy of the method, and the best baseline beside it."""
    for name, kind in {(row["set"], row["texts"]): None for row in rows}:
        parts = []
        for shots in {row["shots"]: None for row in rows}:
            here = [r for r in rows if (r["set"], r["texts"], r["shots"]) == (name, kind, shots)]
            if here:
                parts.append(f"{shots}: {here[0][method]:5.1f} ({min(r['gain'] for r in here):+5.1f})")
        print(f"{name:14} {kind:9} " + "  ".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--shots", nargs="+", default=SHOTS, choices=SHOTS)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=["auto"])
    arguments = parser.parse_args()
    cells = []
    with threadpool_limits(1):
        for name in arguments.sets:
            data = load(name, arguments.folder)
            for shots in arguments.shots:
                # The whole pool of 16 shots can be drawn in one way.
                whole = shots == "16" and len(data.pool) == 16 * len(data.weights)
                for seed in range(1 if whole else arguments.draws):
                    cells += cell(data, shots, seed, tuple(arguments.methods))
    figures = {}
    for method in arguments.methods:
        rows = compare(cells, method)
        table(rows, method)
        figures[method] = {"summary": tell(rows, method), "rows": rows}
        seconds = [c["seconds"][method] for c in cells]
        print(f"  fits: {sum(seconds):.1f} s, the longest {max(seconds):.1f} s")
    if arguments.methods:
        write_result("outsiders", figures | {"draws": arguments.draws})


if __name__ == "__main__":
    main()
