"""Feature files, feature stores, texts, templates and results of runs that are damaged, lie, or ask for too much."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tampered_values import changed_places, odd_contents, tampered_arrays, text_of
from tip_adapter import ImageClassifier
from tip_adapter.bench.records import load_records
from tip_adapter.bench.report import write_report
from tip_adapter.bench.summary import summarise
from tip_adapter.cli import main as run_command
from tip_adapter.features.extraction import extract_features
from tip_adapter.features.feature_data import FeatureData, Part
from tip_adapter.features.feature_files import load_feature_file, save_feature_file
from tip_adapter.features.prompts import load_class_texts
from tip_adapter.features.store import FeatureStore

Case = tuple[str, Callable[[Path], None]]
Subject = tuple[Callable[[], Iterator[Case]], Callable[[Path], None]]


def subjects(folder: Path, photos: list[np.ndarray]) -> dict[str, Subject]:
    """Files of each kind, as they are written: their cases, and what people do with them."""
    folder.mkdir()
    return {
        "feature file": (partial(npz_cases, npz_file(folder / "pets.npz")), use_npz),
        "store": (partial(store_cases, store_file(folder / "store.sqlite3", photos)), partial(use_store, photos)),
        "class texts": (partial(json_cases, {"hat": "a hat", "tee": ["t-shirt", "shirt"]}, "texts.json"), use_texts),
        "runs": (partial(run_cases, runs_folder(folder / "runs", folder / "pets.npz")), use_runs),
    }


def npz_file(path: Path) -> Path:
    """A data set of saved features with everything that may be in one."""
    eye = np.eye(4, dtype=np.float32)
    part = Part(eye, np.arange(4), np.stack([eye, eye], axis=1))
    names = ("cat", "dog", "cow", "pig")
    data = FeatureData("pets", names, part, eye, 100.0, part, {1: part}, part, {"encoder": "fake", "views": 2})
    save_feature_file(path, data)
    return path


def use_npz(path: Path) -> None:
    """Read a feature file and use what came."""
    data = load_feature_file(path.rename(path.with_suffix(".npz")))
    for part in data.parts().values():
        assert np.isfinite(part.features).all()
        np.testing.assert_allclose(np.linalg.norm(part.features, axis=1), 1, atol=2e-3)
    assert data.digest


def npz_cases(source: Path) -> Iterator[Case]:
    """Other arrays, other headers, and bombs."""
    with np.load(source) as file:
        arrays = {name: file[name] for name in file.files}
    yield "as it was", lambda path: save_npz(path, arrays)
    for name, array in arrays.items():
        for what, other in tampered_arrays(array) if array.dtype.kind != "U" else ():
            changed = {key: value for key, value in arrays.items() if key != name}
            yield f"{name}: {what}", partial(save_npz, arrays=changed | ({} if other is None else {name: other}))
        for header in (
            b"(10000000000000,)",
            b"(-1,)",
            b"(2, 10000000000)",
            b"()",
            b"(1.5,)",
            b"[4]",
            b"(" * 500,
            b"1" * 9000,
        ):
            yield (
                f"{name}: said to be of shape {header[:20]!r}",
                partial(with_shape, arrays=arrays, name=name, shape=header),
            )
        for kind in ("|O", "<f4, <f4", "<M8[s]", "<U1000000000", "|V9", "nothing", "<f16", "<c16"):
            yield f"{name}: said to be of kind {kind}", partial(with_kind, arrays=arrays, name=name, kind=kind)
    for name in ("support_²_features", f"support_{'9' * 5000}_features", "support_0_features", "support_-1_features"):
        yield f"the name {name[:20]}", partial(save_npz, arrays=arrays | {name: arrays["test_features"]})
    for text in ("[]", "{", "[" * 10**5, '{"a": NaN}', "9" * 5000, '{"a": 1, "a": 2}', '{"encoder": "\\ud800"}'):
        yield f"description: {text[:20]}", partial(save_npz, arrays=arrays | {"description": np.array(text)})
    yield "objects", partial(save_npz, arrays=arrays | {"more": np.array([{}], dtype=object)})
    yield "a bomb", partial(save_npz, arrays=arrays | {"more": np.zeros(1 << 29, dtype=np.uint8)}, small=True)
    for what, data in odd_contents(source.read_bytes()):
        yield what, partial(write, data=data)


def save_npz(path: Path, arrays: dict[str, Any], *, small: bool = False) -> None:
    """Write arrays as NumPy does."""
    buffer = io.BytesIO()
    with contextlib.suppress(UnicodeError):
        (np.savez_compressed if small else np.savez)(buffer, **arrays)
    path.write_bytes(buffer.getvalue())


def with_shape(path: Path, arrays: dict[str, np.ndarray], name: str, shape: bytes) -> None:
    """An array whose header says another shape."""
    array = np.ascontiguousarray(arrays[name])
    header = b"{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (array.dtype.str.encode(), shape)
    raw_member(path, arrays, name, header, array.tobytes())


def with_kind(path: Path, arrays: dict[str, np.ndarray], name: str, kind: str) -> None:
    """An array whose header says another kind."""
    array = np.ascontiguousarray(arrays[name])
    header = b"{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (kind.encode(), repr(array.shape).encode())
    raw_member(path, arrays, name, header, array.tobytes())


def raw_member(path: Path, arrays: dict[str, np.ndarray], name: str, header: bytes, data: bytes) -> None:
    """Replace a member of a feature file by a header and bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **{key: array for key, array in arrays.items() if key != name})
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(
            f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + data
        )
    path.write_bytes(buffer.getvalue())


def store_file(path: Path, photos: list[np.ndarray]) -> Path:
    """A feature store with features of photos."""
    with FeatureStore(path) as store:
        extract_features(ImageClassifier("fake").encoder, photos, store=store)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    return path


def use_store(photos: list[np.ndarray], path: Path) -> None:
    """Classify photos whose features are in a store."""
    classifier = ImageClassifier("fake", "tip-adapter", store=path).fit(
        photos, [str(n % 3) for n in range(len(photos))]
    )
    assert np.isfinite(classifier.predict_proba(photos)).all()
    with FeatureStore(path) as store:
        store.count()
        store.delete(classifier.model_.shots.features.digests)


STATEMENTS = {
    "numbers in place of bytes": "UPDATE features SET vector = 7",
    "text in place of bytes": "UPDATE features SET vector = 'abcd'",
    "no bytes": "UPDATE features SET vector = x''",
    "a byte more": "UPDATE features SET vector = vector || x'00'",
    "a number more": "UPDATE features SET vector = vector || x'00000000'",
    "half of the bytes": "UPDATE features SET vector = substr(vector, 1, 128), norm = 1",
    "not a number": "UPDATE features SET vector = x'0000c07f', norm = 0",
    "zeros": "UPDATE features SET vector = zeroblob(256), norm = 0",
    "a million numbers": "UPDATE features SET vector = zeroblob(4000000), norm = 0",
    "300 MB": "UPDATE features SET vector = zeroblob(300000000), norm = 0 WHERE rowid = 1",
    "another norm": "UPDATE features SET norm = norm + 1",
    "text as norm": "UPDATE features SET norm = 'x'",
    "infinity as norm": "UPDATE features SET norm = 9e999",
    "no table": "DROP TABLE features",
    "another table": "DROP TABLE features; CREATE TABLE features (a)",
    "one column less": "ALTER TABLE features DROP COLUMN norm",
    "a view": "ALTER TABLE features RENAME TO kept; CREATE VIEW features AS SELECT * FROM kept",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON features BEGIN DELETE FROM features; END",
    "a later version": "PRAGMA user_version = 1000000",
    "a negative version": "PRAGMA user_version = -1",
    "no version": "PRAGMA user_version = 0",
    "other text encoding": "PRAGMA encoding = 'UTF-16'",
}


def store_cases(source: Path) -> Iterator[Case]:
    """Other content of the same database, and other files."""
    yield "as it was", partial(write, data=source.read_bytes())
    for what, statement in STATEMENTS.items():
        yield what, partial(with_statement, source, statement)
    for what, data in odd_contents(source.read_bytes()):
        if data is not None:
            yield what, partial(write, data=data)


def with_statement(source: Path, statement: str, path: Path) -> None:
    """A store in which somebody has run a statement."""
    path.write_bytes(source.read_bytes())
    connection = sqlite3.connect(path)
    with contextlib.suppress(sqlite3.Error):
        connection.executescript(statement)
    connection.commit()
    connection.close()


def use_texts(path: Path) -> None:
    """Read the texts of classes, and templates from the same file."""
    for texts in load_class_texts(path).values():
        assert texts
        " ".join(texts).encode()


def json_cases(content: Any, name: str) -> Iterator[Case]:
    """Other values in a JSON file, and other files."""
    yield "as it was", partial(write, data=json.dumps(content).encode())
    for what, other in changed_places(content):
        yield f"{name}: {what}", partial(write, data=text_of(other).encode("utf-8", "surrogatepass"))
    for what, data in odd_contents(json.dumps(content).encode()):
        yield what, partial(write, data=data)


def runs_folder(folder: Path, data: Path) -> Path:
    """Results of a small comparison."""
    sys.argv = ["tip-adapter", "bench", str(data), "-m", "zero-shot,tip-adapter", "--shots", "1", "-o", str(folder)]
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        with contextlib.suppress(SystemExit):
            run_command()
    return folder


def run_cases(source: Path) -> Iterator[Case]:
    """Other values in the result of a run."""
    file = sorted(source.rglob("runs/**/*.json"))[-1]
    name = file.relative_to(source)
    content = json.loads(file.read_text())
    yield "as it was", partial(with_run, name, file.read_bytes())
    for what, other in changed_places(content):
        yield what, partial(with_run, name, text_of(other).encode("utf-8", "surrogatepass"))
    for what, data in odd_contents(file.read_bytes()):
        yield what, partial(with_run, name, data)


def with_run(name: Path, data: bytes | None, folder: Path) -> None:
    """A folder of results with one file."""
    (folder / name).parent.mkdir(parents=True)
    if data is not None:
        (folder / name).write_bytes(data)


def use_runs(folder: Path) -> None:
    """Make tables of results; files that are left out are named in one line each."""
    records = load_records(folder)
    for _, reason in records.others:
        assert reason.isprintable(), reason
        assert len(reason) < 400, reason
    for row in summarise(records.done):
        assert np.isfinite([row.accuracy, row.low, row.high, row.nll, row.ece]).all()
    write_report(folder, figures=False)


def write(path: Path, data: bytes | None) -> None:
    """A file with these bytes, or none."""
    if data is not None:
        path.write_bytes(data)
