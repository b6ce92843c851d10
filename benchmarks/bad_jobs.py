"""Jobs over many photos to which something bad happens, each several times, by the command line in its own process.

Usage: python benchmarks/bad_jobs.py [--times 20] [--only CASE ...]

Wanted each time: the exit code of the guide, one line of error that says what is wrong, never an end by a signal;
shards that were finished are kept, and the same command, once the cause is gone, finishes the job with every photo
once. Storage elsewhere is a file system of fsspec's that this script registers, so that Parquet is read through Python;
the full disk is one of 48 KB in memory (not tried without the right to mount it). Of the 1,000 photos of "bad photos"
one is cut short, one is empty, one claims 65,000 × 65,000 pixels, and one is a pipe that never ends.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from engines import BAD, photos_of
from provenance import write_result

PHOTOS, ROWS, LONGEST_S = 40, ("--rows-per-shard", "4"), 600
SOURCE = Path(__file__).parents[1] / "src"
ELSEWHERE = """
import os, fsspec
from fsspec.implementations.local import LocalFileSystem

class Elsewhere(LocalFileSystem):
    protocol = "elsewhere"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("elsewhere://"))

    def unstrip_protocol(self, name):
        return "elsewhere://" + self._strip_protocol(name)

    def pipe_file(self, path, value, **options):
        if len(os.listdir(os.path.dirname(path))) > int(os.environ.get("FAILS_AFTER", 10**9)):
            raise RuntimeError("the connection was reset")
        super().pipe_file(path, value, **options)

fsspec.register_implementation("elsewhere", Elsewhere)
"""


@dataclass(frozen=True)
class Case:
    """What is done, and what is wanted; paths are inside the folder of the case, which is the working folder.

    Attributes
    ----------
    words : tuple of str
        The command.
    says : str
        Pattern of the one line of error; nothing: the command succeeds.
    code : int
    prepare, mend : callable
        Of the folder: what comes before, and what takes the cause away; no mend, no second run.
    environment : dict
    limit : callable, optional
        Runs in the process before the command.
    kept : int
        Shards that have to be there after the first run.
    rows : int, optional
        Of the finished job in the folder or file "out".
    """

    words: tuple[str, ...]
    says: str = ""
    code: int = 3
    prepare: Callable[[Path], Any] = lambda folder: None
    mend: Callable[[Path], Any] | None = None
    environment: dict[str, str] | None = None
    limit: Callable[[], None] | None = None
    kept: int = 0
    rows: int | None = None


def photo(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def photos(folder: Path) -> None:
    for number in range(PHOTOS):
        path = folder / "photos" / ("red", "blue")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(number))


def table(path: Path, *, ids: list[str] | None = None, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": ids or [f"p{number}" for number in range(PHOTOS)]} | columns), path)


def images(folder: Path, ids: list[str] | None = None) -> None:
    table(folder / "photos.parquet", ids=ids, image=[photo(number) for number in range(PHOTOS)])


def done(folder: Path, output: str = "out", encoder: str = "fake") -> None:
    """Finish a job."""
    photos(folder)
    ran = run(folder, Case(("embed", "photos", "-e", encoder, "-o", output, *ROWS)))
    assert ran.returncode == 0, ran.stderr


def first_shard(folder: Path) -> Path:
    return sorted((folder / "out").glob("part-*"))[0]


def changed(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    """Finish a job, and change one of its shards."""

    def prepare(folder: Path) -> None:
        done(folder)
        pq.write_table(change(pq.ParquetFile(first_shard(folder)).read()), first_shard(folder))

    return prepare


def narrower(shard: pa.Table) -> pa.Table:
    values = np.stack(shard["features"].to_numpy(zero_copy_only=False))[:, :8]
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 8)
    return shard.set_column(shard.schema.get_field_index("features"), "features", column)


def of_another_encoder(shard: pa.Table) -> pa.Table:
    job = shard.schema.metadata[b"tip_adapter"].replace(b'"encoder_ids": ["', b'"encoder_ids": ["0')
    return shard.replace_schema_metadata({b"tip_adapter": job})


def cut(folder: Path) -> None:
    done(folder)
    os.truncate(first_shard(folder), 100)


def lacking(module: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        photos(folder)
        (folder / "path").mkdir()
        (folder / "path" / f"{module}.py").write_text(f"raise ModuleNotFoundError('no {module}', name={module!r})")

    return prepare


def small_disk(folder: Path) -> None:
    photos(folder)
    (folder / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "none", folder / "disk"], check=True)


def larger_disk(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=10m", folder / "disk"], check=True)


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))


def thousand(folder: Path) -> None:
    (folder / "photos").mkdir()
    photos_of(folder / "photos", 1000, None, sound=False)


def unused_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def cases() -> dict[str, Case]:
    embed, ray = ("embed", "photos", "-e", "fake", *ROWS, "-o"), ("--engine", "ray")
    fit = ("fit", "out", "-m", "tip-adapter", "-o", "c.tip")
    address = f"127.0.0.1:{unused_port()}"
    parquet = ("embed", "photos.parquet", "-e", "fake", "-o", "out")
    away = "elsewhere://{folder}/"
    return {
        "no cluster": Case((*embed, "out", *ray, "--address", address), "no Ray cluster at 127", 1, photos),
        "no cluster, client": Case(
            (*embed, "out", *ray, "--address", f"ray://{address}"), "no Ray cluster at ray", 1, photos
        ),
        "no extra ray": Case((*embed, "out", *ray), "ray is needed", 6, lacking("ray")),
        "no extra data": Case((*embed, "out"), "pyarrow is needed", 6, lacking("pyarrow"), unlack, rows=PHOTOS),
        "cut shard": Case(
            (*embed, "out"), "whole shard", 4, cut, lambda folder: first_shard(folder).unlink(), kept=10, rows=PHOTOS
        ),
        "cut shard, fit": Case(fit, r"out/part-.*delete what is damaged", 3, cut),
        "no image column": Case(parquet, "a column of", 3, lambda folder: table(folder / "photos.parquet")),
        "no feature column": Case(fit, "a column of", 3, lambda folder: table(folder / "out" / "a.parquet")),
        "cut source": Case(
            parquet, "whole Parquet file", 3, lambda folder: (folder / "photos.parquet").write_bytes(b"PAR1")
        ),
        "mixed dimensions": Case(fit, r"dimensions in out, got .* in out/part-", 3, changed(narrower)),
        "mixed encoders": Case(fit, r"one encoder .* out/part-.* differ", 3, changed(of_another_encoder)),
        "an id twice": Case(parquet, "'p1' twice", 3, lambda folder: images(folder, ["p1"] * PHOTOS)),
        "an id twice, fit": Case(
            fit, "4 ids again, such as ", 3, changed(lambda shard: pa.concat_tables([shard, shard]))
        ),
        "another job": Case((*embed, "out", "--dtype", "float16"), "another", 3, done, kept=10),
        "other files": Case((*embed, "photos"), "other files", 3, photos),
        "storage fails": Case(
            (*embed, f"{away}out"),
            "connection was reset",
            1,
            elsewhere(photos),
            still,
            {"FAILS_AFTER": "5"},
            kept=4,
            rows=PHOTOS,
        ),
        "full disk": Case((*embed, "disk/out"), "space", 1, small_disk, larger_disk, kept=2, rows=PHOTOS),
        "largest file": Case((*embed, "out.parquet"), "large", 1, photos, still, limit=small_files, rows=PHOTOS),
        "bad photos": Case(
            ("embed", "photos", "-e", "fake", "--seconds-per-image", "2", "-o", "out"),
            prepare=thousand,
            code=0,
            rows=996,
        ),
        "Parquet elsewhere": Case(
            ("embed", f"{away}photos.parquet", "-e", "fake", "-o", f"{away}out", *ROWS),
            code=0,
            prepare=elsewhere(images),
            rows=PHOTOS,
        ),
        "Parquet elsewhere, cut": Case(
            (*embed, f"{away}out"),
            "whole shard",
            4,
            elsewhere(cut),
            lambda folder: first_shard(folder).unlink(),
            kept=10,
        ),
    }


def still(folder: Path) -> None:
    """What stood in the way is of the first run alone."""


def unlack(folder: Path) -> None:
    shutil.rmtree(folder / "path")


def elsewhere(prepare: Callable[[Path], Any]) -> Callable[[Path], None]:
    def both(folder: Path) -> None:
        prepare(folder)
        (folder / "path").mkdir()
        (folder / "path" / "sitecustomize.py").write_text(ELSEWHERE)

    return both


def run(folder: Path, case: Case, *, again: bool = False) -> subprocess.CompletedProcess[str]:
    words = [word.replace("{folder}", str(folder)) for word in case.words]
    environment = os.environ | {"PYTHONPATH": f"{folder / 'path'}:{SOURCE}", "TIP_ADAPTER_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "tip_adapter", *words],
        cwd=folder,
        env=environment | ({} if again else case.environment or {}),
        preexec_fn=None if again else case.limit,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )


def faults(folder: Path, case: Case) -> list[str]:
    """Do a case once, and say what was not as wanted."""
    case.prepare(folder)
    ran = run(folder, case)
    found = [] if ran.returncode == case.code else [f"exit code {ran.returncode}"]
    errors = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    if "Traceback" in ran.stderr:
        found.append("a traceback")
    if case.says and (len(errors) != 1 or not re.search(case.says, errors[0])):
        found.append(f"said {ran.stderr.strip()[-300:]!r}")
    if len(list(folder.rglob("part-*.parquet"))) < case.kept:
        found.append("finished shards are gone")
    if case.mend is not None:
        case.mend(folder)
        ran = run(folder, case, again=True)
        if ran.returncode:
            found.append(f"not finished: {ran.stderr.strip()[-300:]!r}")
    if case.rows is not None:
        found += wrong_rows(folder, case.rows)
    return found


def wrong_rows(folder: Path, rows: int) -> list[str]:
    place = next(path for path in (folder / "out.parquet", folder / "disk" / "out", folder / "out") if path.exists())
    files = [place] if place.is_file() else sorted(place.glob("part-*.parquet"))
    ids = [name for file in files for name in pq.ParquetFile(file).read(["id"])["id"].to_pylist()]
    found = [] if len(ids) == len(set(ids)) == rows else [f"{len(ids)} rows, {len(set(ids))} ids"]
    if rows == 996:
        bad = [name for file in (place / "_errors").iterdir() for name in pq.ParquetFile(file).read()["id"].to_pylist()]
        kinds = sorted(Path(name).stem.split()[1] for name in bad)
        found += [] if kinds == sorted(BAD) else [f"errors of {kinds}"]
    return found


def once(case: Case) -> tuple[list[str], float]:
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        try:
            return faults(Path(name), case), time.perf_counter() - start
        except subprocess.TimeoutExpired:
            return [f"took longer than {LONGEST_S} s"], float(LONGEST_S)
        finally:
            if os.path.ismount(f"{name}/disk"):
                subprocess.run(["umount", f"{name}/disk"], check=True)


def may_mount() -> bool:
    with tempfile.TemporaryDirectory() as name:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", name], capture_output=True)
        return done.returncode == 0 and subprocess.run(["umount", name]).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=cases())
    given = parser.parse_args()
    figures: dict[str, Any] = {"times": given.times}
    for name, case in cases().items():
        if given.only and name not in given.only:
            continue
        if name == "full disk" and not may_mount():
            figures[name] = "not tried: no right to mount a small disk"
            continue
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(once, [case] * given.times))
        wrong = Counter(fault for found, _ in results for fault in found)
        as_wanted = sum(not found for found, _ in results)
        figures[name] = {"as_wanted": as_wanted, "median_s": float(np.median([seconds for _, seconds in results]))}
        figures[name] |= {"faults": dict(wrong)} if wrong else {}
        print(name, figures[name], flush=True)
        if not given.only:
            write_result("bad_jobs", figures)
    return int(any(isinstance(each, dict) and each["as_wanted"] < given.times for each in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
