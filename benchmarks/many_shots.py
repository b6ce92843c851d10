"""What very many shots take: α and β among 100,000 keys, `auto` on 1,000 classes of 16, a shot added to 100,000.

Usage: python benchmarks/many_shots.py

Features are drawn: 512 dimensions, a direction that all share, a mean of each class around it, shots around the mean,
and texts near the means. Every measurement is a process of its own, so that peak memory is its own; "start" is what
Python, libraries and the features themselves take. Adding is timed as in edits.py, the next prediction included: the
first time after a fit, which copies the features, and from then on.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import subprocess
import sys
import time

import numpy as np

import edits
from provenance import write_result
from tip_adapter.model.fitting import calibrate_on_shots, fit_method, make_estimator

DIM = 512
FITS = {"search": ("tip-adapter", 1000, 100), "auto": ("auto", 1000, 16)}


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def drawn(n_classes: int, shots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(n_classes, DIM)) + 3 * rng.normal(size=DIM)
    labels = np.repeat(np.arange(n_classes), shots)
    features = unit(means[labels] + 4.5 * rng.standard_normal((len(labels), DIM), np.float32))
    return features, labels, unit(means + rng.normal(size=means.shape))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fitted(method: str, n_classes: int, shots: int) -> dict[str, object]:
    features, labels, weights = drawn(n_classes, shots)
    estimator, start = make_estimator(method, {}), {"start_mb": peak_mb()}
    clock = time.perf_counter()
    _, record = fit_method(estimator, features, labels, weights, 100.0)
    fit = {"fit_s": time.perf_counter() - clock, "fit_peak_mb": peak_mb(), "chosen": record.held}
    clock = time.perf_counter()
    calibrate_on_shots(estimator, features, labels)
    done = {"calibration_s": time.perf_counter() - clock, "peak_mb": peak_mb()}
    right = float(np.mean((features @ weights.T).argmax(axis=1) == labels))
    about = {"method": method, "classes": n_classes, "shots": len(labels), "right_by_texts": right}
    return about | start | fit | done


def grown(shots: int = 100_000, times: int = 30) -> dict[str, object]:
    classifier = edits.classifier_of(argparse.Namespace(shots=shots, classes=1000, dim=DIM))
    rng, query, taken = np.random.default_rng(1), drawn(1, 1)[0], []
    names = classifier.class_names
    for number in range(1 + times):
        add = functools.partial(classifier.add_shots, [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)])
        taken.append(edits.timed(functools.partial(add, [names[number]]))[0])
        first, second = (edits.timed(lambda: classifier.model_.head.logits(query))[0] for _ in range(2))
        taken[-1] += max(0.0, first - second)
    further = {"median_ms": float(np.median(taken[1:])), "largest_ms": max(taken[1:])}
    return {"shots": shots, "first_ms": taken[0]} | further


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=(*FITS, "add"), help=argparse.SUPPRESS)
    task = parser.parse_args().task
    if task:
        print(json.dumps(fitted(*FITS[task]) if task in FITS else grown()))
        return
    figures = {}
    for name in (*FITS, "add"):
        words = [sys.executable, __file__, "--task", name]
        figures[name] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        print(name, figures[name], flush=True)
    write_result("many_shots", figures)


if __name__ == "__main__":
    main()
