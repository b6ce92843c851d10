"""What is forgotten is gone from every byte: of the saved classifier, of its siblings, and of the feature store."""

import re
import shutil
import sqlite3

import numpy as np
import pytest

from tip_adapter.classifier import ImageClassifier
from tip_adapter.errors import DuplicateWarning, InputError, StorageWarning, TipAdapterError
from tip_adapter.features.store import FeatureStore
from tip_adapter.storage import bundles

METHODS = ["tip-adapter", "auto", "ape", "tip-x", "tip-adapter-topk", "proker", "knn", "gda"]


@pytest.fixture
def fitted(photos, tmp_path):
    """A function that fits and saves a classifier with a method."""

    def fit(method="tip-adapter", views=1):
        classifier = ImageClassifier("fake", method, views=views)
        classifier.fit(photos / "train", random_state=3).save(tmp_path / "place" / "c.tip")
        return classifier

    return fit


def traces(classifier, row):
    """Bytes that only the photo of a shot leaves anywhere."""
    shots, head = classifier.model_.shots, classifier.model_.head
    digest, name, shot = shots.features.digests[row], shots.features.names[row], shots.ids[row]
    vectors = [shots.features.raw[row, 0], shots.features.unit[row]]
    if hasattr(head, "keys"):
        vectors.append(head.keys[row])
    with FeatureStore() as store:
        rows = store._connection.execute("SELECT vector FROM features WHERE digest = ?", [digest]).fetchall()
    assert rows
    picture = shots.thumbnails[shot]
    found = {"name": name.split("/")[-1].encode(), "digest": digest.encode(), "id": shot.encode()}
    # A name with é is escaped in JSON.
    found["escaped name"] = name.split("/")[-1].encode("ascii", "backslashreplace").replace(b"\\xe9", b"\\u00e9")
    for index, vector in enumerate([*(v.astype("<f4").tobytes() for v in vectors), *(vector for (vector,) in rows)]):
        found[f"feature {index}"], found[f"half of feature {index}"] = vector, vector[len(vector) // 2 :]
    return found | {"picture": picture, "middle of the picture": picture[len(picture) // 2 :][:40]}


def where(found, *folders):
    """Every trace that some file still has."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    return {(name, path.name) for path in files for name, data in found.items() if data in path.read_bytes()}


def unique_names(photos):
    for path in sorted(photos.rglob("*.png")):
        path.rename(path.with_name(f"{path.parents[1].name}-{path.parent.name}-{path.name}"))


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_no_byte_of_a_forgotten_photo_stays(fitted, photos, tmp_path, method, views):
    unique_names(photos)
    place, cache = tmp_path / "place", tmp_path / "cache"
    classifier = fitted(method, views)
    found = traces(classifier, 2)
    shot = classifier.model_.shots.ids[2]
    # What saves that were killed leave behind: temporaries, and data files of a state that never came to be, or was.
    for file in [*(place / "c.tip").glob("*-*"), place / "c.tip" / "config.json"]:
        shutil.copy(file, file.with_name(f".{file.name}.tmp-{'0' * 12}"))
        if "-" in file.name:
            shutil.copy(file, file.with_name(re.sub("-[0-9a-f]{16}", f"-{'0' * 16}", file.name)))
    there = where(found, place, cache)
    kinds = {re.sub("-(wal|[0-9a-f]{16})", "", name) for _, name in there}
    assert {"config.json", "arrays.safetensors", "thumbnails.zip", "features.sqlite3"} <= kinds
    with ImageClassifier.editing(place / "c.tip") as edited:
        edited.relabel([shot], "red")
        edited.remove_shots([edited.model_.shots.ids[5]])
        edited.remove_shots([shot], forget=True)
    assert where(found, place, cache) == set()
    assert sorted(path.name for path in place.iterdir()) == ["c.tip"]
    assert len(list((place / "c.tip").iterdir())) == 5
    again = ImageClassifier.load(place / "c.tip")
    # What was not forgotten can still be taken back.
    assert [again.undo().action for _ in range(1)] == ["remove"]
    assert len(again.model_.shots) == 14
    assert np.isfinite(again.predict_proba(sorted((photos / "test").rglob("*.png")))).all()


@pytest.mark.parametrize("way", ["remove", "undo of add", "remove-class"])
def test_purge_forgets_what_was_removed_earlier(fitted, photos, tmp_path, way):
    unique_names(photos)
    place, cache = tmp_path / "place", tmp_path / "cache"
    classifier = fitted()
    with ImageClassifier.editing(place / "c.tip") as edited:
        if way == "undo of add":
            edited.add_shots([photos / "test" / "red" / "test-red-photo 0é.png"], ["red"])
            found = traces(edited, edited.model_.shots.rows[edited.journal[-1].ids[0]])
            edited.undo()
        else:
            row = 7
            found = traces(edited, row)
            if way == "remove":
                edited.remove_shots([edited.model_.shots.ids[row]])
            else:
                edited.remove_class(edited.class_names[edited.model_.shots.labels[row]])
    assert where(found, place, cache)
    with ImageClassifier.editing(place / "c.tip") as edited:
        assert edited.purge() == (5 if way == "remove-class" else 1)
        assert edited.purge() == 0
    assert where(found, place, cache) == set()
    again = ImageClassifier.load(place / "c.tip")
    assert again.journal[-1].action == "purge"
    if way == "remove":
        assert not any(entry.undo for entry in again.journal)
    if way == "remove-class":
        again.undo()
        assert again.class_names == classifier.class_names
        assert again.model_.counts.tolist() == [5, 0, 5]


def test_all_shots_of_a_photo_are_forgotten(photos):
    image = photos / "train" / "red" / "photo 0é.png"
    others = sorted((photos / "train" / "green").iterdir())[:3]
    with pytest.warns(DuplicateWarning):
        classifier = ImageClassifier("fake", "tip-adapter").fit([image, image, *others], ["red", "red", *["green"] * 3])
    assert len(classifier.remove_shots([classifier.model_.shots.ids[-1]], forget=True)) == 2
    assert classifier.model_.counts.tolist() == [3, 0]


def test_a_store_that_is_in_use_keeps_the_classifier_as_it_was(fitted, tmp_path, monkeypatch):
    place = tmp_path / "place"
    shot = fitted().model_.shots.ids[0]
    before = (place / "c.tip" / "config.json").read_bytes()
    reader = sqlite3.connect(tmp_path / "cache" / "features.sqlite3", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM features").fetchone()
    monkeypatch.setattr("tip_adapter.features.store.BUSY_TIMEOUT_S", 0.2)

    def forget():
        with ImageClassifier.editing(place / "c.tip") as edited:
            edited.remove_shots([shot], forget=True)

    with pytest.raises(TipAdapterError, match="another process"):
        forget()
    reader.close()
    assert (place / "c.tip" / "config.json").read_bytes() == before
    forget()
    assert shot not in ImageClassifier.load(place / "c.tip").model_.shots.ids


def test_a_forgetting_that_is_not_complete_says_so_and_is_completed(fitted, photos, tmp_path, monkeypatch):
    path = tmp_path / "place" / "c.tip"
    unique_names(photos)
    classifier = fitted()
    found, shot = traces(classifier, 2), classifier.model_.shots.ids[2]

    def forget():
        with ImageClassifier.editing(path) as edited:
            return edited.remove_shots([shot[:6]], forget=True)

    with monkeypatch.context() as patch:
        patch.setattr(bundles.Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError(1, "Not yours")))
        with pytest.raises(
            TipAdapterError, match=r"c\.tip is saved, but its former .* cannot be deleted \(Not yours\)"
        ):
            forget()
    assert where(found, path)
    with pytest.warns(StorageWarning, match=r"complete it with tip-adapter purge .*c\.tip"):
        assert shot not in ImageClassifier.load(path).model_.shots.ids
    assert forget() == (shot,)
    assert where(found, path, tmp_path / "cache") == set()
    ImageClassifier.load(path)
    with pytest.raises(InputError, match="There is no shot"):
        forget()


def test_a_photo_that_was_forgotten_can_be_added_anew(fitted, photos, tmp_path):
    classifier = fitted()
    shots = classifier.model_.shots
    path, shot = shots.features.names[0], shots.ids[0]
    classifier.remove_shots([shot], forget=True)
    added = classifier.add_shots([path], ["green"])
    assert added.ids == (shot,)
