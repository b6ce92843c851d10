"""How the cache model grows with its keys: exact sum, exact nearest keys, faiss' cells, and usearch's graph in one run.

Usage: python benchmarks/scale.py [--most 1000000] [--graph 30000] [--data ../shared/data/clip-vit-b32]

Keys are drawn as CLIP's features lie (measured on Stanford Cars and caltech60, ViT-B/32): .57 of the squared length is
common to all, .22 tells the classes apart, with variances that fall as 1 / rank over the 512 dimensions, and .21 is of
the photo, with variances that fall as 1 / (rank + 5). There are 1,000 classes, or one for 16 keys, and queries are
further photos of them, in batches of 64; rates are of the fastest batch, and per second of a processor. faiss looks
into so many cells that it finds 95 % of the nearest keys of keys; the recall that is told is of the queries. Every
number of keys is measured in a process of its own, so that peak memory is its own; "start" is what the keys themselves
take, and libraries. With --data it measures what cutting the sum, and a coreset of the shots, cost in accuracy on real
features (16 shots; intervals are over the test photos, paired), and what ProKeR would lose on landmarks: so many of the
shots, evenly over the classes, whose kernels regress all of them (Nyström), with the α, β and λ of the exact one. With
--most 0 that is all.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from provenance import write_result
from tip_adapter.methods import ProKeR, TipAdapter, TipAdapterTopK
from tip_adapter.methods.heads import CacheHead, TopKCacheHead
from tip_adapter.methods.heads.linear import kernel_residuals
from tip_adapter.methods.heads.top_k import SURE, CellKeys, ExactKeys, measured_recall

DIM, BATCH, COUNT = 512, 64, 64


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def drawn(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng, rank, n_classes = np.random.default_rng(0), np.arange(1, DIM + 1), min(1000, n // 16)
    between = np.sqrt(0.22 / rank / np.sum(1 / rank))[rng.permutation(DIM)]
    within = np.sqrt(0.21 / (rank + 5) / np.sum(1 / (rank + 5))).astype(np.float32)
    means = np.sqrt(0.57) * unit(rng.normal(size=(1, DIM))) + between * rng.normal(size=(n_classes, DIM))
    labels, means = np.sort(rng.integers(0, n_classes, n)), means.astype(np.float32)

    def photos(classes: np.ndarray) -> np.ndarray:
        rows = np.empty((len(classes), DIM), dtype=np.float32)
        for start in range(0, len(rows), 50_000):
            part = classes[start : start + 50_000]
            noise = rng.standard_normal((len(part), DIM), np.float32)
            rows[start : start + 50_000] = unit(means[part] + within * noise)
        return rows

    return photos(labels), labels, photos(rng.integers(0, n_classes, 4 * BATCH))


def rates(name: str, answer: Callable[[np.ndarray], Any], queries: np.ndarray, batch: int = BATCH) -> dict[str, float]:
    """Queries a second, of the fastest batch, and a second of a processor: others may use the machine, too."""
    answer(queries[:batch])
    times, start = list[float](), time.process_time()
    while sum(times) < 3:
        first = len(times) * batch % len(queries)
        begin = time.perf_counter()
        answer(queries[first : first + batch])
        times.append(time.perf_counter() - begin)
    per_processor = len(times) * batch / (time.process_time() - start)
    return {f"{name}_queries_s": batch / min(times), f"{name}_queries_processor_s": per_processor}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def of_keys(n: int, graph: bool) -> dict[str, float]:
    keys, labels, queries = drawn(n)
    given = {"keys": keys, "labels": labels, "alpha": 1.0, "beta": 5.5}
    shape, found = (1000, None, 100.0), {"keys": n, "start_mb": peak_mb()}
    exact = CacheHead(*shape, **given)
    found |= rates("exact", exact.logits, queries) | rates("exact_single", exact.logits, queries, batch=1)
    found["exact_peak_mb"] = peak_mb()
    found |= rates("topk_exact", TopKCacheHead(*shape, **given, neighbours=COUNT).logits, queries)
    start = time.perf_counter()
    index = CellKeys(keys, 1)
    found["faiss_build_s"] = time.perf_counter() - start
    measured_recall(index, keys, np.arange(0, n, -(-n // 256)), COUNT, SURE)
    cells = TopKCacheHead(*shape, **given, neighbours=COUNT, index="faiss", probes=index.probes)
    vars(cells)["key_index"] = index
    found |= {"faiss_probes": index.probes, "faiss_recall": share(index.nearest(queries, COUNT)[1], keys, queries)}
    found |= rates("faiss", cells.logits, queries) | {"faiss_peak_mb": peak_mb()}
    return found | (of_graph(keys, queries) if graph else {})


def share(got: np.ndarray, keys: np.ndarray, queries: np.ndarray) -> float:
    """Recall of the nearest keys."""
    true = ExactKeys(keys).nearest(queries, COUNT)[1]
    return float(np.mean([np.isin(row, other).mean() for row, other in zip(true, got, strict=True)]))


def of_graph(keys: np.ndarray, queries: np.ndarray) -> dict[str, float]:
    from usearch.index import Index

    start = time.perf_counter()
    index = Index(ndim=DIM, metric="ip", dtype="f32", connectivity=32, expansion_add=80, expansion_search=COUNT)
    index.add(np.arange(len(keys)), keys)
    built = time.perf_counter() - start
    found = share(index.search(queries, COUNT).keys, keys, queries)
    speed = rates("usearch", lambda batch: index.search(batch, COUNT), queries)
    return {"usearch_build_s": built, "usearch_recall": found} | speed


def exponent(rows: list[dict[str, float]], key: str) -> float:
    """Slope of log seconds of a processor per query over log keys, from 10,000 keys on."""
    kept = [row for row in rows if row["keys"] >= 10_000 and key in row]
    if len(kept) < 2:
        return float("nan")
    slope = np.polyfit(np.log([row["keys"] for row in kept]), np.log([row[key] for row in kept]), 1)[0]
    return float(-slope)


def coreset(features: np.ndarray, labels: np.ndarray, keep: int) -> np.ndarray:
    """Greedy k-centre of each class, from the shot nearest to the mean."""
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        part = features[rows]
        near = part @ part[np.argmax(part @ part.mean(axis=0))]
        picked = [int(np.argmax(near))]
        while len(picked) < min(keep, len(rows)):
            picked.append(int(np.argmin(near)))
            near = np.maximum(near, part @ part[picked[-1]])
        chosen.extend(rows[picked])
    return np.array(chosen)


def cost(path: Path) -> dict[str, dict[str, float]]:
    with np.load(path, allow_pickle=False) as file:
        data = {key: file[key] for key in file.files}
    shots, labels = data["support_16_features"].astype(np.float32), data["support_16_labels"].astype(np.intp)
    queries, truth = data["test_features"].astype(np.float32), data["test_labels"]
    weights = data["zero_shot_weights"].astype(np.float32)
    right = {"exact": TipAdapter(weights).fit(shots, labels).predict(queries) == truth}
    for count in (16, 64, 256):
        right[f"top-{count}"] = TipAdapterTopK(weights, neighbours=count).fit(shots, labels).predict(queries) == truth
    for keep in (4, 8):
        rows = coreset(shots, labels, keep)
        right[f"coreset {keep} of 16"] = TipAdapter(weights).fit(shots[rows], labels[rows]).predict(queries) == truth
    proker = ProKeR(weights).fit(shots, labels)
    right["proker"] = proker.predict(queries) == truth
    for count in (250, 500, 1000, 2000):
        if count < len(shots):
            right[f"proker on {count} landmarks"] = on_landmarks(proker, shots, labels, queries, count) == truth
    found = {}
    for name, hits in right.items():
        lost = hits.astype(float) - right["proker" if name.startswith("proker") else "exact"]
        half = 196 * lost.std(ddof=1) / np.sqrt(len(lost))
        found[name] = {"accuracy": 100 * hits.mean(), "difference": 100 * lost.mean(), "half_interval": float(half)}
    return found


def on_landmarks(exact: ProKeR, shots: np.ndarray, labels: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
    """Classes by ``t·s·f·Wᵀ + α·k(f, L)·λ·(λ·K_LL + K_LN·K_NL)⁻¹·K_LN·R``, with equally many shots of every class."""
    rows = np.argsort(labels, kind="stable")[np.linspace(0, len(labels) - 1, count).astype(int)]
    weights, scale = exact.zero_shot_weights, exact.logit_scale

    def kernel(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.exp(exact.beta_ * (left.astype(np.float64) @ right.T.astype(np.float64) - 1))

    residuals = kernel_residuals(labels, min(1.0, exact.text_weight_) * scale * (shots @ weights.T), scale)
    across, ridge = kernel(shots[rows], shots), exact.ridge_
    system = ridge * kernel(shots[rows], shots[rows]) + across @ across.T
    solved = ridge * np.linalg.solve(system + 1e-9 * np.trace(system) / count * np.eye(count), across @ residuals)
    text = exact.text_weight_ * scale * (queries @ weights.T)
    return (text + exact.alpha_ * kernel(queries, shots[rows]) @ solved).argmax(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--graph", type=int, default=30_000, help="most keys that usearch's graph is built of")
    parser.add_argument("--data", type=Path, help="folder of caltech60.npz and stanford_cars.npz")
    parser.add_argument("--keys", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.keys:
        print(json.dumps(of_keys(chosen.keys, chosen.keys <= chosen.graph)))
        return
    rows = []
    for n in (1_000, 10_000, 30_000, 100_000, 300_000, 1_000_000):
        if n <= chosen.most:
            words = [sys.executable, __file__, "--keys", str(n), "--graph", str(chosen.graph)]
            rows.append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
            print({name: float(f"{value:.3g}") for name, value in rows[-1].items()}, flush=True)
    names = tuple(f"{name}_queries_processor_s" for name in ("exact", "topk_exact", "faiss"))
    result = {"growth": rows, "exponents": {name: exponent(rows, name) for name in names}}
    if chosen.data:
        result["accuracy"] = {path.stem: cost(path) for path in sorted(chosen.data.glob("*.npz"))}
    print(json.dumps({name: result[name] for name in result if name != "growth"}, indent=1))
    write_result("scale" if rows else "scale_accuracy", result)


if __name__ == "__main__":
    main()
