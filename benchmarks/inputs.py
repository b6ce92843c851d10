"""Memory and features of 10,000 photos given as paths, as rows of a data frame, and as a data set of Hugging Face.

Usage: python benchmarks/inputs.py [--photos 10000]

Photos are noise of 96 × 96 pixels, every tenth of 64 × 64, encoded by the fake encoder. Each kind is predicted in a
process of its own, after a classifier was loaded: the largest memory beyond that is told, also for a tenth of the
photos, and whether answers are equal bit for bit. Memory is the process's own (RssAnon): pages of the data set's file
that are mapped into it, as `datasets` does, are the system's to take back.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from provenance import write_result

KINDS = ("paths", "data frame", "data set of files", "data set with bytes inside")


def write_photos(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for number in range(count):
        side = 64 if number % 10 == 0 else 96
        pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.png")


def given(kind: str, folder: Path, count: int) -> object:
    paths = sorted(map(str, folder.glob("*.png")))[:count]
    if kind == "paths":
        return paths
    if kind == "data frame":
        import pandas as pd

        return pd.DataFrame({"path": paths})
    import datasets

    features = datasets.Features({"image": datasets.Image()})
    if kind == "data set of files":
        return datasets.Dataset.from_dict({"image": paths}, features=features)
    return datasets.Dataset.load_from_disk(str(folder / "arrow")).select(range(count))


def own_mb() -> float:
    """Memory of this process that no file backs."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


@contextmanager
def watched() -> Iterator[list[float]]:
    """Note the memory every few milliseconds."""
    noted, ended = [own_mb()], threading.Event()

    def note() -> None:
        while not ended.wait(0.005):
            noted.append(own_mb())

    thread = threading.Thread(target=note)
    thread.start()
    yield noted
    ended.set()
    thread.join()


def predict(kind: str, folder: Path, count: int) -> None:
    """In a process of its own."""
    from tip_adapter import ImageClassifier

    classifier = ImageClassifier.load(folder / "c.tip", store=None)
    images = given(kind, folder, count)
    classifier.predict(sorted(folder.glob("*.png"))[:1])
    with watched() as noted:
        answers = classifier.predict_proba(images)
    digest = hashlib.sha256(np.ascontiguousarray(answers).tobytes()).hexdigest()
    print(json.dumps({"digest": digest, "more_mb": max(noted) - noted[0], "peak_mb": max(noted)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        predict(arguments.one[0], Path(arguments.one[1]), int(arguments.one[2]))
        return
    from tip_adapter import ImageClassifier

    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder, arguments.photos)
        shots = sorted(folder.glob("*.png"))[:20]
        ImageClassifier("fake", "tip-adapter", store=None).fit(shots, ["a", "b"] * 10).save(folder / "c.tip")
        import datasets

        files = given("data set of files", folder, arguments.photos)
        assert isinstance(files, datasets.Dataset)
        kept = files.cast_column("image", datasets.Image(decode=False)).map(
            lambda row: {"image": {"bytes": Path(row["image"]["path"]).read_bytes(), "path": None}}
        )
        kept.cast_column("image", datasets.Image()).save_to_disk(str(folder / "arrow"))
        for kind in KINDS:
            rows = {}
            for count in (arguments.photos // 10, arguments.photos):
                words = [sys.executable, __file__, "--one", kind, name, str(count)]
                rows[str(count)] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
            figures[kind] = rows
            print(kind, rows, flush=True)
    same = {rows[str(arguments.photos)]["digest"] for rows in figures.values()}
    print("equal bit for bit" if len(same) == 1 else "NOT equal")
    write_result("inputs", {"photos": arguments.photos, "equal": len(same) == 1, "kinds": figures})


if __name__ == "__main__":
    main()
