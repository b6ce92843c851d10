"""Cache logits of many queries: ours, the bare affinity product on the same chunks, and the one-hot formula.

Usage: python benchmarks/predict.py [--queries 50000 --keys 16000 --classes 1000 --dim 512 --repeats 5]

Every variant runs in a process of its own, in turns, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from provenance import write_result
from tip_adapter.methods.heads.affinity import CHUNK_ELEMENTS, Cache, cache_logits
from tip_adapter.processors import usable_processors

BETA = 5.5


def unit(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    features = rng.standard_normal((rows, dim), dtype=np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


def ours(queries: np.ndarray, cache: Cache) -> None:
    cache_logits(queries, cache, BETA)


def bare(queries: np.ndarray, cache: Cache) -> None:
    """The affinity product alone, with all the threads that BLAS takes."""
    rows = CHUNK_ELEMENTS // len(cache.keys)
    product = np.empty((rows, len(cache.keys)), dtype=np.float32)
    for start in range(0, len(queries), rows):
        chunk = queries[start : start + rows]
        np.matmul(chunk, cache.keys.T, out=product[: len(chunk)])


def bare_in_threads(queries: np.ndarray, cache: Cache) -> None:
    """The affinity product alone, one chunk per core at a time with one BLAS thread each, as ours runs."""
    rows = CHUNK_ELEMENTS // len(cache.keys)
    keys = cache.keys.T
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(usable_processors()) as pool:
        for _ in pool.map(
            lambda start: np.matmul(queries[start : start + rows], keys).size, range(0, len(queries), rows)
        ):
            pass


def one_hot(queries: np.ndarray, cache: Cache) -> None:
    """The formula as the paper's code writes it, in the same chunks."""
    ends = np.append(cache.starts[1:], len(cache.keys))
    values = np.zeros((len(cache.keys), cache.n_classes), dtype=np.float32)
    for column, start, end in zip(cache.classes, cache.starts, ends, strict=True):
        values[start:end, column] = 1
    rows = CHUNK_ELEMENTS // len(cache.keys)
    result = np.empty((len(queries), cache.n_classes), dtype=np.float32)
    for start in range(0, len(queries), rows):
        affinity = queries[start : start + rows] @ cache.keys.T
        result[start : start + rows] = np.exp(-BETA + BETA * affinity) @ values


VARIANTS = {"bare": bare, "bare_in_threads": bare_in_threads, "ours": ours, "one_hot": one_hot}


def run_child(arguments: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    queries = unit(rng, arguments.queries, arguments.dim)
    labels = np.arange(arguments.keys) % arguments.classes
    cache = Cache.build(unit(rng, arguments.keys, arguments.dim), labels, arguments.classes)
    work = VARIANTS[arguments.child]
    work(queries[:512], cache)
    start = time.perf_counter()
    work(queries, cache)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("queries", 50_000), ("keys", 16_000), ("classes", 1000), ("dim", 512), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--child", choices=VARIANTS)
    arguments = parser.parse_args()
    if arguments.child:
        return run_child(arguments)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(arguments.repeats):
        for name in VARIANTS:
            command = [sys.executable, *sys.argv, "--child", name]
            rows[name].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    seconds = {name: float(np.median([row["seconds"] for row in runs])) for name, runs in rows.items()}
    figures = {
        "median_seconds": seconds,
        "all_seconds": {name: [row["seconds"] for row in runs] for name, runs in rows.items()},
        "peak_mb": {name: max(row["peak_mb"] for row in runs) for name, runs in rows.items()},
        # The faster of the two ways to run the product is the fair base.
        "ours_over_bare": seconds["ours"] / min(seconds["bare"], seconds["bare_in_threads"]),
        "one_hot_over_ours": seconds["one_hot"] / seconds["ours"],
        "queries_per_second": arguments.queries / seconds["ours"],
    }
    for name, value in figures.items():
        print(name, value)
    return write_result("predict", figures)


if __name__ == "__main__":
    main()
