import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tip_adapter.errors import FeatureError, ModelFileError, StorageWarning, TipAdapterError
from tip_adapter.features import store as store_module
from tip_adapter.features.store import SCHEMA_VERSION, FeatureStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sub folder" / "féatures.sqlite3"


def vectors(count, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    return {(f"digest {index}", "center"): rng.standard_normal(dim).astype(np.float32) for index in range(count)}


@settings(max_examples=30, deadline=None)  # every example waits for the disk
@given(
    vector=arrays(np.float32, st.integers(1, 40), elements=st.floats(allow_nan=False, allow_infinity=False, width=32))
)
def test_round_trip_is_bit_equal(tmp_path_factory, vector):
    with FeatureStore(tmp_path_factory.mktemp("store") / "features.sqlite3") as store:
        store.put("encoder", {("digest", "center"): vector})
        (found,) = store.get("encoder", [("digest", "center")]).values()
    assert found.tobytes() == vector.tobytes()
    assert found.dtype == np.float32
    assert found.flags.writeable


def test_get_returns_only_what_is_there_for_that_encoder_and_view(path):
    features = vectors(3)
    with FeatureStore(path) as store:
        assert store.put("one", features) == 3
        assert store.get("two", list(features)) == {}
        assert store.get("one", [("digest 0", "other view")]) == {}
        assert store.get("one", []) == {}
        assert set(store.get("one", [*features, ("unknown", "center")])) == set(features)
        assert (store.count(), store.count("one"), store.count("two")) == (3, 3, 0)


def test_more_keys_than_fit_into_one_query(path):
    features = vectors(2 * store_module.KEYS_PER_QUERY + 7)
    with FeatureStore(path) as store:
        store.put("encoder", features)
        found = store.get("encoder", list(features) * 2)
    assert set(found) == set(features)
    assert all(np.array_equal(found[key], features[key]) for key in features)


def test_what_is_there_stays_as_it_is(path):
    with FeatureStore(path) as store:
        assert store.put("encoder", {("d", "v"): np.ones(2)}) == 1
        assert store.put("encoder", {("d", "v"): np.zeros(2), ("e", "v"): np.zeros(2)}) == 1
        assert store.get("encoder", [("d", "v")])["d", "v"].tolist() == [1, 1]


def test_reopened_store_has_everything_and_is_in_wal_mode(path):
    with FeatureStore(path) as store:
        store.put("encoder", vectors(5))
    with FeatureStore(path) as store:
        assert store.count() == 5
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    connection.close()


def test_norms_are_stored(path):
    with FeatureStore(path) as store:
        store.put("encoder", {("d", "v"): np.array([3.0, 4.0])})
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT norm FROM features").fetchone() == (5.0,)
    connection.close()


def test_default_place_is_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path))
    with FeatureStore() as store:
        assert store.path == tmp_path / "features.sqlite3"


@pytest.mark.parametrize("bad", [[1.0, np.nan], [np.inf, 1.0]])
def test_not_finite_features_are_refused_with_all_of_their_batch(path, bad):
    with FeatureStore(path) as store:
        with pytest.raises(FeatureError, match=r"NaN or infinity for image d2"):
            store.put("encoder", {("d1", "v"): np.ones(2), ("d2", "v"): np.array(bad)})
        assert store.count() == 0


def test_wrong_shape_is_refused(path):
    with FeatureStore(path) as store, pytest.raises(FeatureError, match=r"shape \(D,\).*\(1, 2\)"):
        store.put("encoder", {("d", "v"): np.ones((1, 2))})


# ---------------------------------------------------------------- damaged, newer and foreign files


def test_newer_version(path):
    FeatureStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(ModelFileError, match=r"got version 2 in .*upgrade tip-adapter"):
        FeatureStore(path)


def test_file_that_is_no_database(tmp_path):
    path = tmp_path / "features.sqlite3"
    path.write_bytes(b"this is no database, but it is long enough to look like one" * 100)
    with pytest.raises(ModelFileError, match=r"is damaged .*delete it and its -wal and -shm files"):
        FeatureStore(path)
    assert path.read_bytes().startswith(b"this is no database")


def test_database_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "other.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (address TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(ModelFileError, match="another program's database"):
        FeatureStore(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("bookmarks",)]
    connection.close()


def test_overwritten_pages(path):
    features = vectors(200, dim=500)
    with FeatureStore(path) as store:
        store.put("encoder", features)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xaa" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="is damaged"), FeatureStore(path) as store:
        store.get("encoder", list(features))


def test_changed_feature_is_noticed(path):
    with FeatureStore(path) as store:
        store.put("encoder", {("d", "v"): np.array([3.0, 4.0])})
    connection = sqlite3.connect(path)
    connection.execute("UPDATE features SET vector = ?", [np.array([3.0, np.nan], dtype="<f4").tobytes()])
    connection.commit()
    connection.close()
    with FeatureStore(path) as store, pytest.raises(ModelFileError, match="does not have its norm"):
        store.get("encoder", [("d", "v")])


# ---------------------------------------------------------------- places that cannot be written


def test_folder_in_place_of_the_file(tmp_path):
    with pytest.raises(TipAdapterError, match=r"cannot be opened: check its permissions"):
        FeatureStore(tmp_path)


def test_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TipAdapterError, match=r"The folder of the feature store .*cannot be made"):
        FeatureStore(tmp_path / "file" / "features.sqlite3")


def test_full_disk_keeps_what_was_finished(path):
    with FeatureStore(path) as store:
        store.put("encoder", vectors(10))
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(TipAdapterError, match=r"the disk is full: free some space and run again"):
            store.put("encoder", {(f"new {index}", "v"): np.ones(1000) for index in range(50)})
        assert store.count() == 10
        store._connection.execute(f"PRAGMA max_page_count = {2**30}")
        store.put("encoder", {("new", "v"): np.ones(1000)})
        assert store.count() == 11


def test_a_store_that_cannot_be_written_is_read(path, monkeypatch):
    features = vectors(3)
    with FeatureStore(path) as store:
        store.put("encoder", features)
    before = path.read_bytes()
    monkeypatch.setattr(store_module, "can_write", lambda path: False)
    with pytest.warns(StorageWarning, match=r"féatures\.sqlite3 cannot be written.*TIP_ADAPTER_CACHE"):
        store = FeatureStore(path)
    with store:
        assert store.read_only
        assert set(store.get("encoder", list(features))) == set(features)
        assert store.put("encoder", vectors(5)) == 0
        assert store.count() == 3
        assert store.delete(["unknown"]) == 0
        with pytest.raises(TipAdapterError, match=r"1 features in .* cannot be written: make it writable"):
            store.delete(["digest 0"])
    assert path.read_bytes() == before


@pytest.mark.parametrize("there", ["nothing", "an empty file", "a damaged file", "another program's", "a newer one"])
def test_what_can_neither_be_written_nor_read(path, monkeypatch, there):
    path.parent.mkdir()
    if there != "nothing":
        path.write_bytes(b"" if there == "an empty file" else b"no database" * 100)
    if there in ("another program's", "a newer one"):
        path.unlink()
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1 if there == 'a newer one' else 0}")
        connection.close()
    monkeypatch.setattr(store_module, "can_write", lambda path: False)
    if there in ("a damaged file", "a newer one"):
        with (
            pytest.warns(StorageWarning, match="cannot be written"),
            pytest.raises(ModelFileError, match=r"damaged|upgrade tip-adapter"),
        ):
            FeatureStore(path)
        return
    with pytest.warns(StorageWarning, match="cannot be written"):
        store = FeatureStore(path)
    with store:
        assert store.get("encoder", [("digest", "center")]) == {}
        assert store.put("encoder", vectors(1)) == 0


def test_locked_by_another_process(path, monkeypatch):
    FeatureStore(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_S", 0.05)
    with FeatureStore(path) as store, pytest.raises(TipAdapterError, match="another process keeps it locked"):
        store.put("encoder", vectors(1))
    other.close()


def test_closed_store(path):
    store = FeatureStore(path)
    store.close()
    store.close()
    with pytest.raises(TipAdapterError, match="is closed"):
        store.count()


# ---------------------------------------------------------------- privacy


def bytes_on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_deleted_features_leave_no_trace_on_the_disk(path):
    features = vectors(300, dim=700)
    secret, kept = ("digest 42", "center"), ("digest 43", "center")
    with FeatureStore(path) as store:
        store.put("encoder", features)
        store.put("other encoder", features)
        store.put("encoder", {("digest 42", "rrc1:0:3"): features[secret]})
        assert features[secret].tobytes() in bytes_on_disk(path)
        assert store.delete(["digest 42", "unknown"]) == 3
        while_open = bytes_on_disk(path)
        assert store.count() == 598
    for data in (while_open, bytes_on_disk(path)):
        # In pieces, since a long value may lie on several pages.
        for start in range(0, 2800 - 64, 64):
            assert features[secret].tobytes()[start : start + 64] not in data
        assert b"digest 42" not in data
        assert features[kept].tobytes()[:64] in data


def test_delete_says_when_another_process_keeps_the_log(path, monkeypatch):
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_S", 0.05)
    with FeatureStore(path) as store:
        store.put("encoder", vectors(3))
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM features").fetchone()
        with pytest.raises(TipAdapterError, match=r"its log keeps traces|keeps it locked"):
            store.delete(["digest 0"])
        reader.close()
        assert store.delete(["digest 0"]) == 0
        assert store.count() == 2
    assert b"digest 0" not in bytes_on_disk(path)


# ---------------------------------------------------------------- several writers


def test_threads_may_share_one_store(path):
    features = vectors(400)
    keys = list(features)
    with FeatureStore(path) as store, ThreadPoolExecutor(8) as pool:
        parts = [keys[start : start + 20] for start in range(0, 400, 10)]
        list(pool.map(lambda part: store.put("encoder", {key: features[key] for key in part}), parts))
        found = list(pool.map(lambda part: store.get("encoder", part), parts))
        assert store.count() == 400
    assert all(np.array_equal(vector, features[key]) for part in found for key, vector in part.items())
    assert [len(part) for part in found] == [len(part) for part in parts]


def write_all(path, barrier):
    barrier.wait(timeout=30)
    with FeatureStore(path) as store:
        for key, vector in vectors(60).items():
            store.put("encoder", {key: vector})


def test_processes_that_create_and_fill_one_store_at_once(path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=write_all, args=(path, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with FeatureStore(path) as store:
        assert store.count() == 60
        assert len(store.get("encoder", list(vectors(60)))) == 60
