"""Read and write the results of single runs, one JSON file each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tip_adapter.bench.provenance import versions
from tip_adapter.errors import InputError
from tip_adapter.storage.atomic import write_file
from tip_adapter.storage.json_files import read_json
from tip_adapter.storage.schema import fields, flag, items, mapping, number, one_of, optional, text, whole
from tip_adapter.storage.strict_json import parse_json

FORMAT = "tip-adapter benchmark run 1"
COLLECTION_FORMAT = "tip-adapter benchmark runs 1"
DONE, FAILED, NOT_APPLICABLE = "done", "failed", "not applicable"
FOLDER, COLLECTION = "runs", "runs.jsonl"

Record = dict[str, Any]

_NAMED = dict.fromkeys(("dataset", "dataset_id", "encoder", "method", "protocol"), text())
_BEGUN = fields(
    {
        **_NAMED,
        "status": one_of(FAILED, NOT_APPLICABLE),
        "reason": text(longest=100_000),
        "shots": optional(whole(0, 10**6)),
        "seed": optional(whole(0, 2**32)),
    },
    open_ended=True,
)
_FINISHED = fields(
    {
        **_NAMED,
        "status": one_of(DONE),
        "shots": whole(0, 10**6),
        "seed": whole(0, 2**32),
        "n_classes": whole(1, 10**7),
        "n_test": whole(1, 10**9),
        "n_validation": whole(0, 10**9),
        "accuracy": number(0, 1),
        "nll": number(0),
        "ece": number(0, 1),
        "fit_seconds": number(0),
        "predict_seconds": number(0),
        "trainable_parameters": whole(0, 10**12),
        # One bit for each test photo.
        "right": text(longest=10**8, pattern="[A-Za-z0-9+/]*={0,2}", named="bytes in base 64"),
        "machine": fields({"cpu": text(), "cores": whole(1, 10**6), "system": text()}, open_ended=True),
        "versions": mapping(text()),
    },
    others={
        "peak_memory_mb": optional(number(0)),
        "code": text(),
        "one_support_set": flag,
        "base_accuracy": number(0, 1),
        "new_accuracy": number(0, 1),
        "templates": optional(items(text(longest=100_000))),
        "views": optional(whole(1, 10_000)),
        "origin": text(longest=10_000),
    },
    open_ended=True,
)
IDENTITY = ("status", "dataset", "dataset_id", "encoder", "protocol", "method", "shots", "seed")


@dataclass(frozen=True)
class Records:
    """Results of a folder."""

    runs: tuple[Record, ...] = ()
    """Those that this version can compare with each other."""
    others: tuple[tuple[str, str], ...] = field(default=())
    """Files that were left out, and why."""

    @property
    def done(self) -> list[Record]:
        """Finished runs."""
        return [run for run in self.runs if run["status"] == DONE]

    @property
    def failed(self) -> list[Record]:
        """Runs that failed."""
        return [run for run in self.runs if run["status"] == FAILED]

    @property
    def not_applicable(self) -> list[Record]:
        """Runs that a method, or the data, does not allow."""
        return [run for run in self.runs if run["status"] == NOT_APPLICABLE]


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a result, whole or not at all."""
    try:
        text = json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False)
    except ValueError as error:
        raise InputError(f"Expected finite figures in a result, got NaN or infinity ({error}): {path.name}") from error
    write_file(path, f"{text}\n".encode())


def read_record(path: Path) -> Record:
    """Read a result."""
    try:
        record = read_json(path)
    except ValueError as error:
        raise InputError(f"is damaged ({error})") from error
    return _checked(record)


def load_records(folder: Path) -> Records:
    """Read all results of a folder: its files of single runs, or the one file that a report made of them."""
    good, others = [], []
    for name, content in _contents(folder):
        try:
            good.append(_checked(content) if isinstance(content, dict) else read_record(content))
        except InputError as error:
            others.append((name, str(error)))
    if not good and not others:
        raise InputError(f"Expected results in {folder} (runs/ or runs.jsonl), found none: run tip-adapter bench first")
    good.sort(key=lambda run: tuple(str(run[key]).zfill(4) for key in IDENTITY[1:]))
    return Records(tuple(good), tuple(others))


def write_collection(path: Path, runs: Sequence[Record]) -> None:
    """Write many results as one small file: a line of what they share, then a line each."""
    shared = {
        key: value
        for key, value in (runs[0] if runs else {}).items()
        if all(key in run and run[key] == value for run in runs)
    }
    lines = [{"format": COLLECTION_FORMAT, "shared": shared}]
    lines += [{key: _short(value) for key, value in run.items() if key not in shared} for run in runs]
    text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    write_file(path, text.encode())


def _short(value: Any) -> Any:
    """Six digits are more than any figure is worth."""
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [_short(item) for item in value]
    return {key: _short(item) for key, item in value.items()} if isinstance(value, dict) else value


def _contents(folder: Path) -> Iterator[tuple[str, Path | Record]]:
    files = sorted((folder / FOLDER).rglob("*.json"))
    yield from ((path.relative_to(folder).as_posix(), path) for path in files if not path.name.startswith("."))
    collection = folder / COLLECTION
    if not files and collection.is_file():
        yield from _of_collection(collection)


def _of_collection(path: Path) -> Iterable[tuple[str, Record]]:
    try:
        head, *lines = [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        found = head["format"]
        runs = [(f"{path.name}, line {number}", head["shared"] | line) for number, line in enumerate(lines, start=2)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"Expected collected results in {path}, got an error ({error}): collect them again") from error
    if found != COLLECTION_FORMAT:
        raise InputError(f"Expected a file of '{COLLECTION_FORMAT}', got {found!r:.60}: {path}")
    return runs


def _checked(record: Any) -> Record:
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise InputError(f"is of the format {found!r:.60}, this version writes {FORMAT!r}")
    others = record.get("versions")
    written = others.get("tip-adapter") if isinstance(others, dict) else None
    if written != versions()["tip-adapter"]:
        raise InputError(f"was written by tip-adapter {written!r:.20}, this is {versions()['tip-adapter']}")
    try:
        (_FINISHED if record.get("status") == DONE else _BEGUN)(record, "it")
        if record["status"] == DONE and len(record["right"]) != 4 * math.ceil(record["n_test"] / 24):
            raise ValueError("it.right should be one bit for each test image")
    except ValueError as error:
        raise InputError(f"is no result: {error}") from error
    return record
