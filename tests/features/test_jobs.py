"""Jobs write every image once, whatever stops in between, and one bad image is a row in the table of errors."""

import io
import json
import tarfile
import threading

import pytest
from PIL import Image

from tip_adapter.data.decoding import image_digest
from tip_adapter.data.records import Record, from_json, list_records, to_json
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import DatasetError, InputError, ModelFileError, TipAdapterError
from tip_adapter.features.batch_encoder import BatchEncoder
from tip_adapter.features.extraction import extract_features
from tip_adapter.features.jobs import Cluster, run_job
from tip_adapter.features.shards import ShardFolder, iter_features, merge

pa = pytest.importorskip("pyarrow", reason="the extra data is not installed")
pq = pytest.importorskip("pyarrow.parquet")


def png(shade):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 30), (shade, 2 * shade % 256, 9)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    for index in range(10):
        path = tmp_path / "photos" / ("red", "blue")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(index * 20))
    return tmp_path / "photos"


def load_worker():
    return BatchEncoder(load_encoder("fake"))


def test_features_equal_those_of_the_library(folder, tmp_path):
    records = list_records([str(folder)])
    shards = ShardFolder(str(tmp_path / "out"), {"encoder": "fake"})
    assert run_job(records, load_worker, shards, rows_per_shard=3) == {"rows": 10, "errors": 0}
    assert len(shards.parts()) == 4
    table = shards.table()
    assert table.schema.field("features").type == pa.list_(pa.float32(), 64)
    raw = extract_features(load_encoder("fake"), [record.path for record in records]).features.raw[:, 0]
    rows = {row["id"]: row for row in table.to_pylist()}
    for record, features in zip(records, raw, strict=True):
        assert rows[record.id]["features"] == features.tolist()
        assert rows[record.id]["label"] == record.label
        assert rows[record.id]["digest"] == image_digest(record.read())
    assert sum(len(values) for values in iter_features(shards.parts())) == 10


def test_bad_images_are_rows_of_the_error_table(folder, tmp_path):
    (folder / "red" / "0.png").write_bytes(b"")
    (folder / "red" / "2.png").write_bytes(png(40)[:60])
    shards = ShardFolder(str(tmp_path / "out"), {})
    assert run_job(list_records([str(folder)]), load_worker, shards) == {"rows": 8, "errors": 2}
    table = pq.read_table(tmp_path / "out" / "_errors")
    errors = {row["id"].rpartition("/")[2]: row["error"] for row in table.to_pylist()}
    assert set(errors) == {"0.png", "2.png"}
    assert "empty" in errors["0.png"]
    # Readers of the folder pass the errors over.
    assert pq.read_table(tmp_path / "out").num_rows == 8
    assert json.loads((tmp_path / "out" / "_manifest.json").read_text())["errors"] == 2


def test_an_image_that_hangs_is_given_up(monkeypatch):
    release = threading.Event()
    read = Record.read
    monkeypatch.setattr(Record, "read", lambda self: release.wait() if self.id == "hangs" else read(self))
    worker = BatchEncoder(load_encoder("fake"), seconds_per_image=0.05)
    found = worker({"id": ["a", "hangs", "b"], "image": [png(1), Record("hangs", "x"), png(2)]})
    release.set()
    assert [error is None for error in found["error"]] == [True, False, True]
    assert "took longer than 0.05 s" in found["error"][1]


def test_a_job_goes_on_where_it_was_stopped(folder, tmp_path):
    records = list_records([str(folder)])
    encoded = []

    def stops_at(limit):
        def load():
            worker = load_worker()

            def work(batch):
                if len(encoded) >= limit:
                    raise KeyboardInterrupt
                encoded.extend(batch["id"])
                return worker(batch)

            return work

        return load

    shards = ShardFolder(str(tmp_path / "out"), {"encoder": "fake"})
    with pytest.raises(KeyboardInterrupt):
        run_job(records, stops_at(4), shards, rows_per_shard=2)
    assert len(shards.finished()) == 4
    assert run_job(records, stops_at(100), shards, rows_per_shard=3)["rows"] == 10
    assert sorted(encoded) == sorted(record.id for record in records)
    assert sorted(shards.table(["id"])["id"].to_pylist()) == sorted(encoded)


def test_other_results_are_not_mixed(folder, tmp_path):
    records = list_records([str(folder)])
    run_job(records, load_worker, ShardFolder(str(tmp_path / "out"), {"encoder": "fake"}))
    with pytest.raises(InputError, match=r"results of another \(encoder\)"):
        run_job(records, load_worker, ShardFolder(str(tmp_path / "out"), {"encoder": "other"}))
    with pytest.raises(InputError, match=r"results of another \(dtype\)"):
        run_job(records, load_worker, ShardFolder(str(tmp_path / "out"), {"encoder": "fake"}, dtype="float16"))
    with pytest.raises(InputError, match="got other files"):
        run_job(records, load_worker, ShardFolder(str(folder), {"encoder": "fake"}))


def test_a_damaged_shard_is_named(folder, tmp_path):
    shards = ShardFolder(str(tmp_path / "out"), {})
    run_job(list_records([str(folder)]), load_worker, shards)
    with open(shards.parts()[0], "r+b") as file:
        file.truncate(100)
    with pytest.raises(ModelFileError, match="delete it and run again"):
        run_job(list_records([str(folder)]), load_worker, shards)


def test_float16_and_one_file(folder, tmp_path):
    shards = ShardFolder(str(tmp_path / "out"), {}, dtype="float16")
    run_job(list_records([str(folder)]), load_worker, shards, rows_per_shard=4)
    merge(shards.parts(), tmp_path / "one.parquet")
    table = pq.read_table(tmp_path / "one.parquet")
    assert (table.num_rows, table.schema.field("features").type) == (10, pa.list_(pa.float16(), 64))


@pytest.mark.parametrize("nested", [False, True])
def test_parquet_with_image_bytes(tmp_path, nested):
    images = [{"bytes": png(n), "path": f"{n}.png"} if nested else png(n) for n in range(5)]
    labels, names = ["hat", " cap ", "hat", "  ", None], ["hat", "cap", "hat", None, None]
    path = tmp_path / "photos.parquet"
    pq.write_table(
        pa.table({"id": [f"p{n}" for n in range(5)], "image": images, "label": labels}), path, row_group_size=2
    )
    records = list_records([str(path)])
    assert [(record.id, record.label) for record in records] == [(f"p{n}", names[n]) for n in range(5)]
    assert [record.read() for record in from_json(to_json(records))] == [png(n) for n in range(5)]


def test_webdataset_tar(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in (
            ("s/0.jpg", png(1)),
            ("s/0.cls", b"hat"),
            ("s/1.jpg", png(2)),
            ("s/1.json", b'{"label": 7}'),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    records = list_records([str(tmp_path / "a.tar")])
    assert [(record.id[-3:], record.label) for record in records] == [("s/0", "hat"), ("s/1", "7")]
    assert [record.read() for record in records] == [png(1), png(2)]


def test_storage_elsewhere(folder):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/photos", recursive=True)
    records = list_records(["memory://photos"])
    assert sorted({record.label for record in records}) == ["blue", "red"]
    shards = ShardFolder("memory://out", {})
    assert run_job(records, load_worker, shards, rows_per_shard=4) == {"rows": 10, "errors": 0}
    assert run_job(records, lambda: pytest.fail("all is done"), shards) == {"rows": 10, "errors": 0}


def test_storage_that_fails_half_way(folder, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    memory, records = fsspec.filesystem("memory"), list_records([str(folder)])
    write, written = type(memory).pipe_file, []

    def full(self, path, *given, **options):
        written.append(path)
        if len(written) > 3:
            raise RuntimeError("the bucket\nis full")
        return write(self, path, *given, **options)

    monkeypatch.setattr(type(memory), "pipe_file", full)
    shards = ShardFolder("memory://half", {})
    with pytest.raises(TipAdapterError, match=r"the bucket is full.*finished shards are kept, run again to go on"):
        run_job(records, load_worker, shards, rows_per_shard=4)
    assert len(shards.finished()) == 8
    monkeypatch.undo()
    assert run_job(records, load_worker, shards, rows_per_shard=4) == {"rows": 10, "errors": 0}
    assert sorted(shards.table(["id"])["id"].to_pylist()) == sorted(record.id for record in records)
    with pytest.raises(DatasetError, match="storage that fsspec can reach"):
        run_job(records, load_worker, ShardFolder("nowhere://out", {}))


def test_what_is_no_source(tmp_path):
    pq.write_table(pa.table({"id": ["a", "a"], "image": [png(1), png(2)]}), tmp_path / "twice.parquet")
    with pytest.raises(DatasetError, match="an id of its own, got 'a' twice"):
        list_records([str(tmp_path / "twice.parquet")])
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="a whole Parquet file"):
        list_records([str(tmp_path / "cut.parquet")])
    with pytest.raises(DatasetError, match="storage that fsspec can reach"):
        list_records(["nowhere://a"])
    with pytest.raises(InputError, match="an engine of threads, ray"):
        Cluster("spark")
