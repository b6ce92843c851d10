"""Results on disk: whole, finite, of this version, and small when collected."""

import json

import pytest
from example_runs import record

from tip_adapter.bench import load_records
from tip_adapter.bench.records import write_collection, write_record
from tip_adapter.errors import InputError


def test_no_result_holds_nan(tmp_path):
    for value in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="finite figures"):
            write_record(tmp_path / "runs" / "a.json", record(accuracy=value))
    assert not (tmp_path / "runs").exists()


def test_results_come_back_sorted(tmp_path):
    for shots in (16, 2):
        write_record(tmp_path / "runs" / f"{shots}.json", record(shots=shots))
    found = load_records(tmp_path)
    assert [run["shots"] for run in found.runs] == [2, 16]
    assert not found.others


OTHERS = {
    "another format": (record(format="tip-adapter benchmark run 0"), "is of the format 'tip-adapter benchmark run 0'"),
    "another version": (record(versions={"tip-adapter": "0.0.1"}), "was written by tip-adapter '0.0.1'"),
    "no shots": ({key: value for key, value in record().items() if key != "shots"}, "it lacks shots"),
    "no figures": (record(nll=None), "it.nll should be a finite number"),
    "a list": ([1], "is of the format None"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_results_are_set_apart_and_named(tmp_path, name):
    content, words = OTHERS[name]
    write_record(tmp_path / "runs" / "good.json", record())
    (tmp_path / "runs" / "other.json").write_text(json.dumps(content))
    found = load_records(tmp_path)
    assert len(found.runs) == 1
    ((file, reason),) = found.others
    assert (file, words in reason) == ("runs/other.json", True), reason


def test_damaged_results_are_set_apart(tmp_path):
    write_record(tmp_path / "runs" / "good.json", record())
    (tmp_path / "runs" / "half.json").write_text('{"format": ')
    assert "is damaged" in load_records(tmp_path).others[0][1]


def test_an_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="run tip-adapter bench first"):
        load_records(tmp_path)


def test_collected_results_say_what_is_shared_once(tmp_path):
    runs = [record(seed=seed, accuracy=0.7 + seed / 100) for seed in range(3)]
    write_collection(tmp_path / "runs.jsonl", runs)
    head, *lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    assert json.loads(head)["shared"]["dataset"] == "pets"
    assert [json.loads(line) for line in lines] == [{"seed": run["seed"], "accuracy": run["accuracy"]} for run in runs]
    assert [run | {"nll": runs[0]["nll"]} for run in load_records(tmp_path).runs] == runs


@pytest.mark.parametrize("text", ["", "[]", '{"format": "x", "shared": {}}', '{"format"'])
def test_damaged_collections_are_refused(tmp_path, text):
    (tmp_path / "runs.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"runs\.jsonl|collect"):
        load_records(tmp_path)
