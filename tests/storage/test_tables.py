"""Tables come back as they were written, in every format, and odd names do not break them."""

import csv
import json

import pytest

from tip_adapter.errors import InputError, MissingExtraError, TipAdapterError
from tip_adapter.storage.tables import check_table_path, write_table

ROWS = [
    {"path": "größe/a, b.jpg", "class": 'the "hat"', "probability": 0.1},
    {"path": "line\nbreak.jpg", "class": "帽子", "probability": 1 / 3},
]


def read(path):
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [row | {"probability": float(row["probability"])} for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


@pytest.mark.parametrize("name", ["t.csv", "t.CSV", "t.jsonl", "t.parquet"])
def test_what_is_written_is_read_again(tmp_path, name):
    write_table(tmp_path / "new" / name, ROWS)
    # A CSV file may be shown on a terminal, so there a name stays on its line.
    shown = [row | {"path": row["path"].replace("\n", "\\n")} for row in ROWS]
    assert read(tmp_path / "new" / name) == (shown if name.lower().endswith("csv") else ROWS)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_file_name_that_is_no_text(tmp_path, name):
    write_table(tmp_path / name, [{"path": "caf\udce9.jpg", "probability": 1.0}])
    (row,) = read(tmp_path / name)
    assert row["path"] == ("caf\udce9.jpg" if name == "t.jsonl" else "caf\\udce9.jpg")


@pytest.mark.parametrize("name", ["t.xlsx", "t", "t.csv.gz"])
def test_unknown_endings(tmp_path, name):
    with pytest.raises(InputError, match=r"\.csv, \.jsonl, \.parquet"):
        check_table_path(tmp_path / name)
    with pytest.raises(InputError, match="rename it"):
        write_table(tmp_path / name, ROWS)
    assert list(tmp_path.iterdir()) == []


def test_parquet_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"\.\[data\]"):
        check_table_path(tmp_path / "t.parquet")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(TipAdapterError, match=r"t\.csv cannot be written"):
        write_table(tmp_path / "file" / "t.csv", ROWS)
