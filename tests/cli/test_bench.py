"""`tip-adapter bench` as a user runs it."""

import csv
import json

import numpy as np
import pytest

PLAIN = ["-m", "zero-shot,tip-adapter", "-k", "1,2", "--seeds", "2"]


@pytest.fixture
def features(tmp_path):
    """A feature file of two classes."""
    rng = np.random.default_rng(0)
    arrays = {"class_names": np.array(["ant", "bee"]), "zero_shot_weights": np.eye(2, 6, dtype=np.float32)}
    for part, count in (("train", 4), ("test", 10)):
        labels = np.repeat([0, 1], count)
        arrays |= {f"{part}_features": np.eye(2, 6)[labels] + 0.3 * rng.normal(size=(2 * count, 6))}
        arrays |= {f"{part}_labels": labels}
    np.savez(tmp_path / "two.npz", **arrays)
    return tmp_path / "two.npz"


def test_photos_in_one_command(run, photos, tmp_path):
    code, out, err = run("bench", photos, "-e", "fake", "-o", tmp_path / "out", *PLAIN)
    assert (code, err) == (0, "")
    assert "photos, fake, protocol fair: accuracy in %" in out
    lines = [line.split() for line in out.splitlines()]
    assert lines[2][:11] == ["method", "1", "shot", "2", "shots", "NLL", "ECE", "fit", "s", "predict", "s"]
    assert {"zero-shot", "tip-adapter"} <= {line[0] for line in lines if line}
    assert "8 runs made, 0 were there already" in out
    with (tmp_path / "out" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["shots"]) for row in rows] == [
        ("tip-adapter", "1"),
        ("tip-adapter", "2"),
        ("zero-shot", "1"),
        ("zero-shot", "2"),
    ]
    assert all(0 <= float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"]) for row in rows)
    assert list((tmp_path / "out").glob("accuracy-*.png"))


def test_json_and_report_only(run, features, tmp_path):
    code, out, _ = run("bench", features, "-o", tmp_path / "out", *PLAIN, "--json")
    first = json.loads(out)
    assert (code, first["runs"], len(first["rows"])) == (0, 8, 4)
    (tmp_path / "out" / "table.md").unlink()
    code, out, err = run("bench", "--report-only", "-o", tmp_path / "out", "--json")
    again = json.loads(out)
    assert (code, err, again["rows"]) == (0, "", first["rows"])
    assert (tmp_path / "out" / "table.md").exists()
    assert "two, saved features, protocol fair" in run("bench", "--report-only", "-o", tmp_path / "out")[1]


def test_what_is_left_out_is_said(run, features, tmp_path):
    code, out, _ = run("bench", features, "-o", tmp_path / "out", "-m", "zero-shot", "--protocol", "both")
    assert code == 0
    assert "not applicable: two, paper: zero-shot: the protocol 'paper' tunes on a validation split" in out
    assert "note: two has 4 photos of 'ant' to learn from, so 8, 16 shots are left out" in out


def test_a_failed_run_shows_in_the_exit_code(run, features, tmp_path):
    # β overflows, so the cache is NaN.
    code, out, err = run(
        "bench", features, "-o", tmp_path / "out", "-k", "1", "-m", "zero-shot,tip-adapter:alpha=1e39:beta=1"
    )
    assert code == 1, (out, err)
    assert "zero-shot" in out
    assert "failed: two, fair: tip-adapter:alpha=1e+39:beta=1 (1 shots): " in err
    assert err.splitlines()[-1] == "error: 3 runs failed, the others are kept: see above"


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["Unknown method 'clip'", "zero-shot", "tip-adapter"], ["two.npz", "-m", "clip"]),
        (["Unknown data set 'cars'", "stanford_cars"], ["cars"]),
        (["--data-root", "dtd"], ["dtd"]),
        (["numbers separated by commas", "'many'"], ["two.npz", "-k", "many"]),
        (["Unknown protocol 'oracle'", "fair, paper, paper-few"], ["two.npz", "--protocol", "oracle"]),
        (["at most 4 shots, got 8"], ["two.npz", "-k", "8"]),
        (["Expected data"], []),
        (["no data with --report-only"], ["two.npz", "--report-only"]),
        (["found none", "tip-adapter bench"], ["--report-only"]),
        (["Expected photos to go with encoder"], ["two.npz", "-e", "fake"]),
    ],
)
def test_bad_input(fails, features, monkeypatch, words, arguments):
    monkeypatch.chdir(features.parent)
    fails(3, words, "bench", *arguments)
    assert not (features.parent / "tip-adapter-bench" / "runs").exists()


def test_a_folder_that_cannot_be_written_to(fails, features):
    fails(1, ["two.npz", "choose another place"], "bench", features, "-o", features)
