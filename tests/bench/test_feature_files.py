"""Files of features: what is written comes back, and what does not fit is named."""

import io
import zipfile

import numpy as np
import pytest

from tip_adapter.bench import FeatureData, Part, load_feature_file, save_feature_file
from tip_adapter.errors import DatasetError, FeatureError, InputError
from tip_adapter.features.feature_files import load_training_features


def test_round_trip_keeps_every_array(tiny, tmp_path):
    rng = np.random.default_rng(0)
    views = rng.normal(size=(len(tiny.train), 2, 8)).astype(np.float32)
    views /= np.linalg.norm(views, axis=2, keepdims=True)
    train = Part(tiny.train.features, tiny.train.labels, views)
    given = {1: tiny.train.subset(np.array([0, 6, 12]))}
    data = FeatureData(
        "tiny", tiny.class_names, tiny.test, None, 20.0, tiny.validation, given, train, {"encoder": "mine"}
    )
    save_feature_file(tmp_path / "tiny.npz", data)
    loaded = load_feature_file(tmp_path / "tiny.npz")
    assert loaded.digest == data.digest
    assert {name: part.digest for name, part in loaded.parts().items()} == {
        name: part.digest for name, part in data.parts().items()
    }
    assert (loaded.logit_scale, loaded.description, loaded.zero_shot_weights) == (20.0, {"encoder": "mine"}, None)


def test_rows_of_any_length_become_unit_rows(tiny, tiny_file):
    arrays = dict(np.load(tiny_file))
    arrays["test_features"] = 7 * arrays["test_features"]
    np.savez(tiny_file, **arrays)
    np.testing.assert_allclose(load_feature_file(tiny_file).test.features, tiny.test.features, atol=1e-6)


@pytest.mark.parametrize("change", ["name", "scale", "features", "labels"])
def test_the_digest_tells_data_apart(tiny, change):
    test = tiny.test
    changed = {
        "name": FeatureData("tiny", ("ant", "bee", "elk"), test, tiny.zero_shot_weights, 20.0, train=tiny.train),
        "scale": FeatureData("tiny", tiny.class_names, test, tiny.zero_shot_weights, 21.0, train=tiny.train),
        "features": FeatureData(
            "tiny", tiny.class_names, Part(test.features[::-1], test.labels), tiny.zero_shot_weights, train=tiny.train
        ),
        "labels": FeatureData(
            "tiny", tiny.class_names, Part(test.features, test.labels[::-1]), tiny.zero_shot_weights, train=tiny.train
        ),
    }[change]
    assert changed.digest != tiny.digest


def nan(arrays):
    features = arrays["test_features"].copy()
    features[3, 2] = np.nan
    return {"test_features": features}


def zero(arrays):
    features = arrays["train_features"].copy()
    features[3] = 0
    return {"train_features": features}


BAD = {
    "no names": (lambda arrays: {"class_names": None}, DatasetError, "array class_names in .*tiny.npz, found"),
    "names of numbers": (lambda arrays: {"class_names": np.arange(3)}, DatasetError, "class_names as text"),
    "twins": (lambda arrays: {"class_names": np.array(["ant", "bee", "ant"])}, DatasetError, "different class names"),
    "no labels": (lambda arrays: {"validation_labels": None}, DatasetError, "array validation_labels"),
    "nothing to learn": (lambda arrays: {"train_features": None}, DatasetError, "found neither"),
    "nothing at all": (lambda arrays: {"train_features": None, "test_features": None}, DatasetError, "test_features"),
    "names of another number": (lambda arrays: {"train_names": np.array(["a.jpg"])}, DatasetError, "18 train_names"),
    "digests of numbers": (lambda arrays: {"train_digests": np.arange(18)}, DatasetError, "text in one dimension"),
    "NaN": (nan, FeatureError, "finite test_features .* in row 3"),
    "zeros": (zero, FeatureError, "train_features other than zero"),
    "text": (lambda arrays: {"test_features": arrays["test_features"].astype(str)}, FeatureError, "as floats in 2"),
    "flat": (lambda arrays: {"test_features": arrays["test_features"][0]}, FeatureError, "as floats in 2 dimensions"),
    "other dim": (lambda arrays: {"train_features": np.ones((18, 5))}, FeatureError, r"shape \(18, 8\)"),
    "other length": (lambda arrays: {"train_features": np.ones((17, 8))}, FeatureError, r"shape \(18, 8\)"),
    "weights": (lambda arrays: {"zero_shot_weights": np.ones((2, 8))}, FeatureError, r"zero_shot_weights of shape"),
    "label too high": (lambda arrays: {"test_labels": arrays["test_labels"] + 1}, DatasetError, "from 0 to 2 in tiny"),
    "label below 0": (lambda arrays: {"test_labels": arrays["test_labels"] - 1}, DatasetError, "got -1 to 1"),
    "names as labels": (lambda arrays: {"test_labels": np.array(["ant"] * 15)}, DatasetError, "labels as integers"),
    "uneven shots": (
        lambda arrays: {"support_2_features": np.ones((5, 8)), "support_2_labels": np.array([0, 0, 1, 1, 2])},
        DatasetError,
        "2 shots of every class in support_2 of tiny, got 1 of 'cow'",
    ),
    "scale": (lambda arrays: {"logit_scale": np.array(-1.0)}, DatasetError, "logit_scale as one number above 0"),
    "description": (lambda arrays: {"description": np.array("{")}, DatasetError, "description as JSON"),
    "views": (lambda arrays: {"train_views": np.ones((18, 2, 7))}, FeatureError, "train_views of shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_named(tiny_file, name):
    change, error, words = BAD[name]
    arrays = dict(np.load(tiny_file))
    arrays |= change(arrays)
    np.savez(tiny_file, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(error, match=words):
        load_feature_file(tiny_file)


def test_objects_are_refused(tmp_path):
    np.savez(tmp_path / "evil.npz", class_names=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DatasetError, match=r"evil\.npz, got an error"):
        load_feature_file(tmp_path / "evil.npz")


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04broken"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DatasetError, match="arrays of numbers and text"):
        load_feature_file(tmp_path / "a.npz")
    with pytest.raises(DatasetError, match="no feature file"):
        load_feature_file(tmp_path / "b.npz")


def test_a_truncated_file_is_refused(tiny_file):
    tiny_file.write_bytes(tiny_file.read_bytes()[:-200])
    with pytest.raises(DatasetError, match="write it again"):
        load_feature_file(tiny_file)


def test_the_ending_is_checked(tiny, tmp_path):
    with pytest.raises(InputError, match=r"ending in \.npz"):
        save_feature_file(tmp_path / "tiny.zip", tiny)


def test_without_test_photos_half_of_every_class_is_tested_on(tiny, tiny_file):
    arrays = {key: value for key, value in np.load(tiny_file).items() if not key.startswith("test_")}
    np.savez(tiny_file, **arrays)
    halved = load_feature_file(tiny_file)
    assert np.bincount(halved.test.labels).tolist() == np.bincount(halved.train.labels).tolist() == [3, 3, 3]
    assert halved.description["origin"] == "half of every class is the test set"
    assert len(load_training_features(tiny_file).part) == len(tiny.train)


def claiming(path, shape, data):
    """A file of one array whose header says that it is larger than it is."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("test_features.npy", header.getvalue() + data)
    return path


def test_sizes_are_checked_before_memory_is_taken(tmp_path):
    with pytest.raises(DatasetError, match="has not so many bytes"):
        load_feature_file(claiming(tmp_path / "a.npz", (10**12, 1000), b"few"))
    with pytest.raises(DatasetError, match="packed more than 100 times"):
        load_feature_file(claiming(tmp_path / "b.npz", (30_000_000,), bytes(120_000_000)))
