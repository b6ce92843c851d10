"""embed and predict write Parquet files that other programs read, and go on where they were stopped."""

import json

import pytest

pq = pytest.importorskip("pyarrow.parquet", reason="the extra data is not installed")


def test_features_in_one_file(run, photos, tmp_path):
    (photos / "train" / "red" / "bad.png").write_bytes(b"")
    code, out, err = run("embed", photos / "train", "-e", "fake", "-o", tmp_path / "f.parquet")
    assert (code, out) == (0, f"15 photos saved: {tmp_path / 'f.parquet'}\n")
    assert err.startswith("1 photos could not be read")
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.column_names == ["id", "path", "label", "group", "digest", "features"]
    assert all(row["label"] in row["path"] for row in table.to_pylist())


def test_new_photos_are_added(run, photos, tmp_path):
    given = (photos / "train", "-e", "fake", "--rows-per-shard", 4, "-o", tmp_path / "out", "--json")
    assert json.loads(run("embed", *given)[1])["rows"] == 15
    (photos / "train" / "red" / "new.png").write_bytes((photos / "test" / "red" / "photo 0é.png").read_bytes())
    assert json.loads(run("embed", *given)[1])["rows"] == 16


def test_predictions_with_sets(run, photos, model, tmp_path):
    asked = ("--coverage", 0.8, "--none-of-these", 0.2, "-o", tmp_path / "p")
    assert run("predict", model, photos / "test", *asked)[0] == 0
    rows = pq.read_table(tmp_path / "p").to_pylist()
    shown = json.loads(run("predict", model, photos / "test", "--json")[1])["predictions"]
    assert {row["path"]: row["class"] for row in rows} == {each["path"]: each["class"] for each in shown}
    for row in rows:
        assert row["class"] in row["set"]
        assert row["out_of_distribution"] in (True, False)
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_what_does_not_go_together(photos, fails, model, tmp_path):
    fails(3, "no --views with", "embed", photos, "-e", "fake", "--views", 2, "-o", tmp_path / "f.parquet")
    fails(3, "no --top-k with", "predict", model, photos, "--top-k", 2, "-o", tmp_path / "f.parquet")
    fails(3, "an engine of threads, ray", "embed", photos, "-e", "fake", "--engine", "spark", "-o", tmp_path / "f")
    fails(3, "--engine ray with", "embed", photos, "-e", "fake", "--workers", 2, "-o", tmp_path / "f")
    fails(3, "an --output ending", "embed", photos, "-e", "fake", "--engine", "ray")
    fails(3, "got other files", "embed", photos, "-e", "fake", "-o", photos)
