"""Kill an extraction half-way and run it again; run two at once: the store stays whole, and nothing is encoded twice.

Usage: python benchmarks/store_kill.py [--encoder fake] [--photos FOLDER] [--count 2000]
Exits with 1 when a figure is not as promised.
"""

from __future__ import annotations

import argparse
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tip_adapter.datasets import find_images
from tip_adapter.encoders import load_encoder
from tip_adapter.features import extract_features
from tip_adapter.store import FeatureStore

BATCH_SIZE = 32


def make_photos(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((533, 400), Image.Resampling.BICUBIC).save(folder / f"{index:06}.jpg", quality=90)


def encode(arguments: argparse.Namespace) -> None:
    """Run as a child: encode the photos into the store, and print how many were encoded and how many were known."""
    last = [0, 0, 0]

    def remember(done: int, total: int, cached: int) -> None:
        last[:] = done, total, cached

    with FeatureStore(arguments.store) as store:
        extract_features(
            load_encoder(arguments.encoder),
            find_images([arguments.photos]),
            store=store,
            batch_size=BATCH_SIZE,
            progress=remember,
        )
    print(last[1] - last[2], last[2])


def start(arguments: argparse.Namespace, photos: Path, store: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--child", "--encoder", arguments.encoder]
    return subprocess.Popen(
        [*command, "--photos", str(photos), "--store", str(store)], stdout=subprocess.PIPE, text=True
    )


def count_rows(store: Path) -> int:
    try:
        connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5)
        rows = int(connection.execute("SELECT COUNT(*) FROM features").fetchone()[0])
        connection.close()
    except sqlite3.OperationalError:  # not made yet
        return 0
    return rows


def kill_half_way(arguments: argparse.Namespace, photos: Path, store: Path, total: int) -> list[bool]:
    child = start(arguments, photos, store)
    while count_rows(store) < total // 2 and child.poll() is None:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    code = child.wait()
    rows = count_rows(store)
    connection = sqlite3.connect(store)
    (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    print(f"killed: exit code {code}, {rows} of {total} features stored, integrity check: {integrity}")
    began = time.perf_counter()
    encoded, known = finished(start(arguments, photos, store))
    print(f"second run: {encoded} encoded, {known} taken from the store, {time.perf_counter() - began:.1f} s")
    print(f"after it: {count_rows(store)} rows for {total} photos")
    return [code == -signal.SIGKILL, integrity == "ok", encoded == total - rows, count_rows(store) == total]


def two_at_once(arguments: argparse.Namespace, photos: Path, store: Path, total: int) -> list[bool]:
    children = [start(arguments, photos, store) for _ in range(2)]
    results = [finished(child) for child in children]
    for number, (encoded, known) in enumerate(results, start=1):
        print(f"process {number} of two at once: {encoded} encoded, {known} taken from the store")
    print(f"after them: {count_rows(store)} rows for {total} photos")
    encoded, _ = finished(start(arguments, photos, store))
    print(f"third run: {encoded} encoded")
    return [count_rows(store) == total, encoded == 0]


def finished(child: subprocess.Popen[str]) -> tuple[int, int]:
    """Wait for a child and return how many photos it encoded, and how many it found."""
    out, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"a child failed with exit code {child.returncode}")
    encoded, known = map(int, out.split())
    return encoded, known


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="fake")
    parser.add_argument("--photos", type=Path, help="default: generated ones of 533 × 400 pixels")
    parser.add_argument("--count", type=int, default=2000, help="how many to generate")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child:
        encode(arguments)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        photos = arguments.photos or Path(folder)
        if arguments.photos is None:
            make_photos(photos, arguments.count)
        # Copies of one photo have one row, so files are counted by content.
        total = len({path.read_bytes() for path in find_images([photos])})
        kept = kill_half_way(arguments, photos, Path(folder) / "killed.sqlite3", total)
        kept += two_at_once(arguments, photos, Path(folder) / "both.sqlite3", total)
    print("all as promised" if all(kept) else f"NOT as promised: {kept}")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
