"""embed and predict write Parquet files that other programs read, and go on where they were stopped."""

import json

import numpy as np
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


@pytest.mark.parametrize("output", ["f", "f.parquet"])
def test_fit_and_bench_learn_from_parquet(run, photos, tmp_path, output):
    path = tmp_path / output
    assert run("embed", photos / "train", "-e", "fake", "--rows-per-shard", 4, "-o", path)[0] == 0
    assert run("fit", path, "-m", "tip-adapter", "-k", 4, "-o", tmp_path / "f.tip")[0] == 0
    assert run("fit", photos / "train", "-e", "fake", "-m", "tip-adapter", "-k", 4, "-o", tmp_path / "p.tip")[0] == 0
    said = [
        json.loads(run("predict", tmp_path / name, photos / "test", "--json")[1])["predictions"]
        for name in ("f.tip", "p.tip")
    ]
    for one, other in zip(*said, strict=True):
        assert (one["class"], one["probability"]) == (other["class"], pytest.approx(other["probability"], rel=1e-3))
    rows = run("bench", path, "-m", "zero-shot,prototype", "-k", 1, "-o", tmp_path / "bench", "--json")
    assert rows[0] == 0, rows[2]
    assert len(json.loads(rows[1])["rows"]) == 2


def test_features_that_cannot_be_learned_from(run, photos, tmp_path, fails):
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "a.png").write_bytes((photos / "test" / "red" / "photo 0é.png").read_bytes())
    assert run("embed", tmp_path / "loose", "-e", "fake", "-o", tmp_path / "f")[0] == 0
    fails(3, "features with labels", "fit", tmp_path / "f", "-o", tmp_path / "c.tip")
    for dtype in ("float16", "float32"):
        assert run("embed", photos / "train", "-e", "fake", "--dtype", dtype, "-o", tmp_path / dtype)[0] == 0
    for part in (tmp_path / "float16").glob("part-*"):
        part.rename(tmp_path / "float32" / part.name.replace("part-", "part-0"))
    fails(3, "features of one encoder", "fit", tmp_path / "float32", "-o", tmp_path / "c.tip")


@pytest.mark.parametrize("output", ["f", "f.parquet"])
@pytest.mark.parametrize("way", ["remove", "purge"])
def test_forgetting_reaches_parquet_files(run, fails, photos, tmp_path, output, way):
    path, model = tmp_path / output, tmp_path / "c.tip"
    run("embed", photos / "train", "-e", "fake", "--rows-per-shard", 4, "-o", path)
    run("fit", photos / "train", "-e", "fake", "-m", "tip-adapter", "-o", model)
    shot = json.loads(run("shots", model, "--json")[1])["shots"][0]
    lost = next(row for row in pq.read_table(path).to_pylist() if row["digest"].startswith(shot["id"]))
    if way == "remove":
        fails(3, "Expected --forget with --files", "remove", model, shot["id"], "--files", path)
        fails(3, "got no _manifest.json", "remove", model, shot["id"], "--forget", "--files", photos)
        assert shot["id"] in run("shots", model)[1]
        run("remove", model, shot["id"], "--forget", "--files", path)
    else:
        run("remove", model, shot["id"])
        run("purge", model, "--files", path)
    assert len(pq.read_table(path)) == 14
    vector = np.array(lost["features"], dtype=np.float32).tobytes()
    for file in [path, *tmp_path.rglob("*.parquet")]:
        if file.is_file():
            data = file.read_bytes()
            assert not any(trace in data for trace in (vector, lost["digest"].encode(), lost["id"].encode()))
    run("fit", path, "-m", "tip-adapter", "-k", 4, "-o", tmp_path / "again.tip")


def test_parquet_without_images_is_told_by_its_columns(photos, fails, run, tmp_path):
    import pyarrow as pa

    tables = {
        "words": pa.table({"a": [1], "b": ["x"]}),
        "numbers": pa.table({"image": [1], "label": ["x"]}),
        "lists": pa.table({"image": [[b"x"]], "label": ["x"]}),
        "features": pa.table({"id": ["a"], "features": [[1.0]]}),
    }
    folder = tmp_path / "tables"
    folder.mkdir()
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
        schema = pq.read_schema(folder / f"{name}.parquet")
        words = ["Expected a column of image bytes", *(f"{field.name} ({field.type})" for field in schema)]
        words.append("for fit, evaluate and bench" if name == "features" else "in a column path")
        fails(3, words, "embed", folder / f"{name}.parquet", "-e", "fake", "-o", tmp_path / "f")
    fails(3, "Expected a column of image bytes", "embed", folder, "-e", "fake", "-o", tmp_path / "f")
    pq.write_table(pa.table({"image": pa.array([b"x"], pa.binary())}), folder / "z.parquet")
    fails(3, "features.parquet", "embed", folder, "-e", "fake", "-o", tmp_path / "f")
    # A manifest names files, and photos may lie beside tables of something else.
    pq.write_table(tables["words"], photos / "train" / "red" / "words.parquet")
    assert run("embed", photos / "train" / "red", "-e", "fake", "-o", tmp_path / "beside")[0] == 0
