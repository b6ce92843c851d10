"""The whole comparison, with real worker processes: resumed, locked, interrupted, and never mixed."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from tip_adapter import bench
from tip_adapter.bench import runner, workers
from tip_adapter.bench.execution import execute, load_data
from tip_adapter.data.sampling import sample_shots
from tip_adapter.errors import InputError, TipAdapterError
from tip_adapter.methods import METHODS
from tip_adapter.storage.locking import locked


def in_this_process(jobs, n_processes, threads):
    """What workers do, without the second each takes to start."""
    for job in jobs:
        execute(job, load_data(job.data, job.base))
        yield job, None


@pytest.fixture
def processes(tiny_file, tmp_path):
    """Compare with worker processes."""

    def call(*sources, output=tmp_path / "out", **changes):
        options = {"methods": "zero-shot,prototype", "shots": [1, 2], "n_seeds": 2, "jobs": 2, "figures": False}
        return bench.run(sources or [tiny_file], output, **options | changes)

    return call


@pytest.fixture
def compare(processes, monkeypatch):
    """Compare in this process."""
    monkeypatch.setattr(runner, "run_jobs", in_this_process)
    return processes


def files(folder):
    return sorted(path for path in (folder / "runs").rglob("*.json"))


def test_a_run_is_what_the_method_does_by_hand(processes, tiny):
    result = processes(methods="gda", shots=[6], logits=True)
    (record,) = result.records
    method = METHODS["gda"](tiny.zero_shot_weights, class_names=list(tiny.class_names), logit_scale=20.0)
    logits = method.fit(tiny.train.features, tiny.train.labels).logits(tiny.test.features)
    (path,) = (result.output / "logits").rglob("*.npz")
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_allclose(file["logits"], logits, rtol=1e-5)
    assert record["accuracy"] == np.mean(logits.argmax(axis=1) == tiny.test.labels)
    assert record["one_support_set"]
    assert {"versions", "machine", "code", "digests", "tuning", "chosen", "encoder"} <= set(record)
    assert 0 <= record["peak_memory_mb"] < 500


def test_runs_that_are_there_are_not_made_again(compare):
    first = compare()
    assert (first.n_run, first.n_kept) == (8, 0)
    before = {path: path.stat().st_mtime_ns for path in files(first.output)}
    again = compare(shots=[1, 2, 4])
    assert (again.n_run, again.n_kept) == (4, 8)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (compare(redo=True, methods="zero-shot").n_run, compare(redo=True, methods="zero-shot").n_kept) == (4, 0)


def test_tables_and_figures_are_written_and_written_again_from_the_results(compare):
    result = compare(protocol="both", figures=True)
    names = {path.name for path in result.report.files}
    assert {"table.md", "table.csv", "runs.jsonl", "gap-tiny-saved-features-paper.png"} <= names
    table = (result.output / "table.md").read_text()
    assert "## tiny, saved features, protocol fair" in table
    assert "12 validation images" in table
    assert "| tiny, saved features, paper | zero-shot | +0.00 ± 0.00 |" in table
    # The one small file of all runs is enough.
    for path in files(result.output):
        path.unlink()
    rows = bench.write_report(result.output).rows
    assert [row.accuracy for row in rows] == pytest.approx([row.accuracy for row in result.report.rows], rel=1e-5)
    assert (result.output / "table.md").read_text() == table


def test_ctrl_c_keeps_finished_runs_and_the_next_call_goes_on(processes, tmp_path):
    started = []

    def interrupt(done, total, last):
        if done == 3:
            started.extend(workers_alive())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processes(progress=interrupt)
    finished = len(files(tmp_path / "out"))
    assert finished >= 3
    assert started or finished == 8, "workers may be done with their few short runs before the third is heard of"
    assert not workers_alive()
    (tmp_path / "out" / "runs" / ".half.json.tmp-0123").write_text("{")
    result = processes()
    assert result.n_kept >= 3
    assert result.n_run + result.n_kept == 8
    assert not list((tmp_path / "out").rglob(".*tmp-*"))


def workers_alive():
    """Processes of the benchmark that this one started; -ww, for long paths are cut off otherwise."""
    listed = subprocess.run(["ps", "-ww", "-eo", "ppid=,args="], capture_output=True, text=True, check=True).stdout
    own = [line.split(None, 1) for line in listed.splitlines() if line.strip()]
    return [args for parent, args in own if parent == str(os.getpid()) and "tip_adapter.bench.worker" in args]


def test_one_benchmark_at_a_time_writes_to_a_folder(compare, tmp_path):
    (tmp_path / "out").mkdir()
    with (
        locked(tmp_path / "out"),
        pytest.raises(TipAdapterError, match=r"Another process is changing .*out: wait for it to end and try again$"),
    ):
        compare()
    assert compare().n_run == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"versions": {"tip-adapter": "0.0.1"}}, "was written by tip-adapter .0.0.1."),
        ({"format": "tip-adapter benchmark run 0"}, "is of the format"),
        ({"digests": {"test": "0"}}, "was measured with other data"),
        ({"parameters": {"alpha": 1}}, "was measured with other parameters"),
    ],
)
def test_results_of_another_kind_are_named_and_not_mixed(compare, change, words):
    result = compare()
    path = files(result.output)[0]
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | change))
    with pytest.raises(InputError, match=f"1 result .*{words}.*--redo"):
        compare()
    assert json.loads(path.read_text()) == record | change
    assert compare(redo=True).n_run == 8


def test_another_state_of_the_data_is_another_data_set(compare, tiny, tmp_path):
    compare()
    result = compare(replace(tiny, logit_scale=7.0))
    assert result.n_run == 8
    assert len({row.setting.dataset for row in result.report.rows}) == 2


def test_more_shots_in_the_pool_change_draws_and_are_not_mixed(compare, tiny):
    compare(tiny)
    fewer = replace(tiny, train=tiny.train.subset(np.r_[0:5, 6:11, 12:17]))
    with pytest.raises(InputError, match="other data"):
        compare(fewer)


def test_a_worker_that_dies_is_a_failed_run_and_the_others_go_on(processes, monkeypatch):
    real, deaths = workers._start, []

    def dies_once(threads):
        if deaths:
            return real(threads)
        deaths.append(threads)
        code = "import sys; sys.stdin.readline(); sys.stdin.readline(); sys.exit(3)"
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    monkeypatch.setattr(workers, "_start", dies_once)
    result = processes(jobs=1)
    (failed,) = result.failed
    assert failed["reason"] == "the worker process ended with code 3"
    assert sum(record["status"] == "done" for record in result.records) == 7
    assert "## Failed" in (result.output / "table.md").read_text()
    again = processes()
    assert (again.n_run, again.n_kept) == (1, 7)  # failed runs are made again


class Tuned(METHODS["prototype"]):
    """Stands for full fine-tuning: takes photos, leaves a checkpoint, and can be averaged with its beginning."""

    takes_images = needs_encoder = True
    seen: ClassVar[dict] = {}
    wise_weight: float = 0.5

    def fit(self, X, y, *, encoder, class_texts, checkpoint, validation=None):
        self.seen["photos"], self.seen["validation"] = [Path(path).parent.name for path in X], validation
        Path(checkpoint).parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".safetensors", ".rates.json"):
            Path(checkpoint).with_suffix(suffix).touch()
        self.seen["fits"] = self.seen.get("fits", 0) + 1
        self.classes_, self.trainable_parameters_ = np.unique(y), 7
        return self

    def at_wise_weight(self, wise_weight):
        other = copy.copy(self)
        other.wise_weight = wise_weight
        return other

    def logits(self, X):
        right = [sorted({Path(path).parent.name for path in X}).index(Path(path).parent.name) for path in X]
        answers = np.eye(3)[right]
        # Averaged: all right. Not averaged: always the first class.
        return answers if self.wise_weight == 0.5 else np.eye(3)[np.zeros(len(X), dtype=int)]


def test_one_training_gives_two_results_with_and_without_averaging(compare, photos, monkeypatch, add_method):
    add_method("tuned", Tuned)
    monkeypatch.setattr(Tuned, "seen", {})
    monkeypatch.setattr("tip_adapter.encoders.trainable.load_trainable_encoder", lambda name: name)
    result = compare(photos, methods="tuned", shots=[2], n_seeds=1, encoder="fake", store=None)
    assert {record["method"]: record["accuracy"] for record in result.records} == {
        "tuned": 1.0,
        "tuned:wise_weight=1": pytest.approx(1 / 3),
    }
    assert sorted(Tuned.seen["photos"]) == ["green", "green", "red", "red", "sky blue", "sky blue"]
    assert {record["trainable_parameters"] for record in result.records} == {7}
    assert not [path for path in (result.output / "checkpoints").rglob("*") if path.is_file()]
    again = compare(photos, methods="tuned", shots=[2], n_seeds=1, encoder="fake", store=None)
    assert (again.n_run, again.n_kept, Tuned.seen["fits"]) == (0, 2, 1)
    files(result.output)[0].unlink()
    assert compare(photos, methods="tuned", shots=[2], n_seeds=1, encoder="fake", store=None).n_run == 1


def test_methods_on_the_encoder_need_photos(compare, add_method):
    add_method("tuned", Tuned)
    (record,) = compare(methods="tuned").records
    assert (record["status"], record["shots"]) == ("not applicable", None)
    assert "run it on photos" in record["reason"]


def test_few_shot_validation(compare, tiny):
    result = compare(replace(tiny, validation=None), methods="gda", protocol="fair,paper-few", shots=[2, 6])
    few = [record for record in result.records if record["protocol"] == "paper-few"]
    assert {(record["shots"], record["n_validation"]) for record in few} == {(2, 6)}
    assert len({record["digests"]["validation"] for record in few}) == 2
    assert all("as in CoOp" in record["tuning"] for record in few)
    method = METHODS["gda"](tiny.zero_shot_weights, class_names=list(tiny.class_names), logit_scale=20.0)
    rows, more = (sample_shots(tiny.train.labels, shots, random_state=0) for shots in (2, 4))
    apart = tiny.train.subset(np.setdiff1d(more, rows))
    method.fit(tiny.train.features[rows], tiny.train.labels[rows], validation=(apart.features, apart.labels))
    (first,) = [record for record in few if record["seed"] == 0]
    assert first["chosen"]["alpha"] == pytest.approx(method.alpha_)


def test_what_cannot_be_is_said(compare, tiny):
    no_split = replace(tiny, validation=None)
    result = compare(no_split, protocol="both")
    assert [record["status"] for record in result.records].count("not applicable") == 2
    assert "the protocol 'paper' tunes on a validation split" in (result.output / "table.md").read_text()


def test_methods_without_text_are_said_not_crashed(compare, tiny):
    result = compare(replace(tiny, zero_shot_weights=None), methods="ape,prototype", shots=[1])
    assert {record["method"]: record["status"] for record in result.records} == {
        "ape": "not applicable",
        "prototype": "done",
    }
    assert not result.failed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": "nope"}, "Unknown method 'nope'"),
        ({"protocol": "nope"}, "Unknown protocol"),
        ({"shots": [7]}, "at most 6 shots, got 7"),
        ({"jobs": 0}, "at least 1 job"),
        ({"n_seeds": 0}, "at least 1"),
        ({"views": 3}, "photos to go with views"),
        ({"encoder": "fake"}, "photos to go with encoder"),
    ],
)
def test_bad_arguments_leave_nothing(compare, tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        compare(**changes)
    assert not (tmp_path / "out" / "runs").exists()


def test_a_data_set_named_twice_is_measured_once(compare, tiny_file):
    assert compare(tiny_file, tiny_file).n_run == 8


def test_results_stay_out_of_the_photos(compare, photos):
    with pytest.raises(InputError, match="output folder outside the photos"):
        compare(photos, output=photos / "out", encoder="fake")
    assert not (photos / "out").exists()


def test_no_data(tmp_path):
    with pytest.raises(InputError, match="at least one data set"):
        bench.run([], tmp_path)


def test_photos_leave_a_feature_file_that_gives_the_same_results(photos, tmp_path, compare):
    result = compare(photos, encoder="fake", store=None)
    assert result.records[0]["encoder"] == "fake"
    assert result.records[0]["views"] == 1
    (path,) = (result.output / "data").glob("*.npz")
    again = compare(path, output=tmp_path / "again", shots=[1])
    assert {row.accuracy for row in again.report.rows if row.method == "zero-shot"} == {
        row.accuracy for row in result.report.rows if row.method == "zero-shot"
    }


def test_published_features(shared_data, tmp_path):
    """Figures that were measured with other code: zero-shot 58.96 %, GDA about 77.7 % at 16 shots."""
    result = bench.run(
        [shared_data / "clip-vit-b32" / "stanford_cars.npz"], tmp_path, methods="zero-shot,gda", shots=[16], jobs=2
    )
    found = {row.method: row for row in result.report.rows}
    assert 100 * found["zero-shot"].accuracy == pytest.approx(58.96, abs=0.005)
    assert 100 * found["gda"].accuracy > 77.4
    assert {row.interval for row in found.values()} == {"test images"}
