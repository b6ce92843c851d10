"""Kill `tip-adapter embed` half-way and run it again; run two at once: the store stays whole, nothing is encoded twice.

Usage: python benchmarks/store_kill.py [--encoder fake] [--photos FOLDER] [--count 2000]
Exits with 1 when a figure is not as promised.
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from provenance import write_result
from tip_adapter.data import find_images


def make_photos(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((533, 400), Image.Resampling.BICUBIC).save(folder / f"{index:06}.jpg", quality=90)


def start(encoder: str, photos: Path, store: Path) -> subprocess.Popen[str]:
    program = str(Path(sys.executable).with_name("tip-adapter"))
    command = [program, "embed", str(photos), "--encoder", encoder, "--store", str(store), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def count_rows(store: Path) -> int:
    try:
        connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5)
        rows = int(connection.execute("SELECT COUNT(*) FROM features").fetchone()[0])
        connection.close()
    except sqlite3.OperationalError:  # not made yet
        return 0
    return rows


def kill_half_way(encoder: str, photos: Path, store: Path, total: int) -> tuple[dict[str, Any], bool]:
    child = start(encoder, photos, store)
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
    encoded, known = finished(start(encoder, photos, store))
    seconds = time.perf_counter() - began
    after = count_rows(store)
    print(f"second run: {encoded} encoded, {known} taken from the store, {seconds:.1f} s; then {after} rows")
    figures = {"exit_code": code, "stored_when_killed": rows, "integrity_check": integrity}
    figures |= {"second_run_encoded": encoded, "second_run_known": known, "rows_after": after}
    promised = code == -signal.SIGKILL and integrity == "ok" and encoded == total - rows and after == total
    return figures, promised


def two_at_once(encoder: str, photos: Path, store: Path, total: int) -> tuple[dict[str, Any], bool]:
    results = [finished(child) for child in [start(encoder, photos, store) for _ in range(2)]]
    after = count_rows(store)
    for number, (encoded, known) in enumerate(results, start=1):
        print(f"process {number} of two at once: {encoded} encoded, {known} taken from the store")
    again, _ = finished(start(encoder, photos, store))
    print(f"after them: {after} rows for {total} photos; a third run: {again} encoded")
    figures = {"encoded": [encoded for encoded, _ in results], "rows_after": after, "third_run_encoded": again}
    return figures, after == total and again == 0


def finished(child: subprocess.Popen[str]) -> tuple[int, int]:
    """Wait for a child and return how many photos it encoded, and how many it found."""
    out, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"a child failed with exit code {child.returncode}")
    told = json.loads(out)
    return told["encoded"], told["cached"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="fake")
    parser.add_argument("--photos", type=Path, help="default: generated ones of 533 × 400 pixels")
    parser.add_argument("--count", type=int, default=2000, help="how many to generate")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        photos = arguments.photos or Path(folder) / "photos"
        if arguments.photos is None:
            photos.mkdir()
            make_photos(photos, arguments.count)
        # Copies of one photo have one row, so files are counted by content.
        total = len({path.read_bytes() for path in find_images([photos])})
        killed, whole = kill_half_way(arguments.encoder, photos, Path(folder) / "killed.sqlite3", total)
        both, single = two_at_once(arguments.encoder, photos, Path(folder) / "both.sqlite3", total)
    kept = whole and single
    print("all as promised" if kept else "NOT as promised")
    write_result("store_kill", {"photos": total, "killed": killed, "two_at_once": both, "as_promised": kept})
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
