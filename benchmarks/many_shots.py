"""What very many shots take: choosing α and β, `auto` on 1,000 classes, an addition, and `fit` to a folder of features.

Usage: python benchmarks/many_shots.py [--task search|auto|add|all] [--photos 200000 800000]

There are 100,000 keys to choose among and to add to, and 16 shots of each of the 1,000 classes.
Features are drawn: 512 dimensions, a direction that all share, a mean of each class around it, shots around the mean,
and texts near the means. Every measurement is a process of its own, so that peak memory is its own; "start" is what
Python, libraries and the features themselves take. Adding is timed as in edits.py, the next prediction included: the
first time after the classifier was loaded, and from then on. "all" writes features of 50 classes to Parquet,
and fits to them; memory is what the process alone holds (RssAnon), looked at every 20 ms, before and at the most.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import edits
from provenance import write_result
from tip_adapter.classifier import ImageClassifier
from tip_adapter.features.shards import ShardFolder
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
    with tempfile.TemporaryDirectory() as folder:
        edits.classifier_of(argparse.Namespace(shots=shots, classes=1000, dim=DIM)).save(f"{folder}/c.tip")
        clock = time.perf_counter()
        classifier = ImageClassifier.load(f"{folder}/c.tip", encoder=edits.ReadyEncoder(DIM), store=None)
        load_s = time.perf_counter() - clock
    rng, query, taken = np.random.default_rng(1), drawn(1, 1)[0], []
    names = classifier.class_names
    for number in range(1 + times):
        add = functools.partial(classifier.add_shots, [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)])
        taken.append(edits.timed(functools.partial(add, [names[number]]))[0])
        first, second = (edits.timed(lambda: classifier.model_.head.logits(query))[0] for _ in range(2))
        taken[-1] += max(0.0, first - second)
    further = {"median_ms": float(np.median(taken[1:])), "largest_ms": max(taken[1:])}
    return {"shots": shots, "load_s": load_s, "first_ms": taken[0]} | further


class DrawnTexts(edits.ReadyEncoder):
    """An encoder whose texts are drawn, too."""

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Draw a feature for every text."""
        return np.random.default_rng(1).standard_normal((len(texts), self.dim)).astype(np.float32)


def written(folder: Path, photos: int, n_classes: int = 50) -> None:
    """Write features to Parquet as embed does."""
    encoder, rng = DrawnTexts(DIM), np.random.default_rng(0)
    job = {"kind": "features", "encoder": "fake", "encoder_ids": [encoder.image_id, encoder.text_id], "dim": DIM}
    shards = ShardFolder(str(folder), job | {"precision": "fp32", "logit_scale": 20.0})
    shards.open()
    means = rng.normal(size=(n_classes, DIM)) + 3 * rng.normal(size=DIM)
    for start in range(0, photos, 20_000):
        rows = np.arange(start, min(start + 20_000, photos))
        labels = rows * n_classes // photos
        columns = {"id": [f"{row}.jpg" for row in rows], "label": [f"class {label:02d}" for label in labels]}
        columns |= {"group": [None] * len(rows), "digest": [f"{row:064x}"[::-1] for row in rows]}
        columns["features"] = means[labels] + 4.5 * rng.standard_normal((len(rows), DIM), np.float32)
        shards.write(columns | {"error": [None] * len(rows)})


def own_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def of_all(folder: Path) -> dict[str, object]:
    classifier, most, ended = ImageClassifier(DrawnTexts(DIM), store=None), [own_mb()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            most.append(own_mb())

    thread, clock = threading.Thread(target=watch), time.perf_counter()
    thread.start()
    classifier.fit(folder)
    seconds = time.perf_counter() - clock
    ended.set()
    thread.join()
    files = sum(path.stat().st_size for path in folder.glob("*.parquet")) / 2**20
    about = {"files_mb": files, "start_mb": most[0], "peak_mb": max(most), "fit_s": seconds}
    return about | {"chosen": classifier.model_.method.chosen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=(*FITS, "add", "all"), help="one of them alone")
    parser.add_argument("--photos", type=int, nargs="*", default=[200_000, 800_000])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        task = given.task
        measured = of_all(given.folder) if task == "all" else fitted(*FITS[task]) if task in FITS else grown()
        print(json.dumps(measured))
        return
    figures = {}
    for name in (given.task,) if given.task else (*FITS, "add", "all"):
        for photos in given.photos if name == "all" else [None]:
            with tempfile.TemporaryDirectory() as folder:
                if photos:
                    written(Path(folder), photos)
                words = [sys.executable, __file__, "--measure", "--task", name, "--folder", folder]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
            figures[f"{name} {photos}" if photos else name] = json.loads(done.stdout)
        print({one: figures[one] for one in figures if one.startswith(name)}, flush=True)
    write_result("many_shots" if given.task is None else f"many_shots_{given.task}", figures)


if __name__ == "__main__":
    main()
