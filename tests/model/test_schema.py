"""Whatever a saved classifier holds, it is refused in one line, or does what classifiers do."""

import copy
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_onnx import some_photos
from tip_adapter import ImageClassifier
from tip_adapter.errors import ModelFileError, TipAdapterError
from tip_adapter.model.card import card_of
from tip_adapter.storage.bundles import load_bundle, save_bundle

PHOTOS, LABELS = some_photos(12), ["red", "green", "blue"] * 4
METHODS = ("tip-adapter", "proker", "ape", "knn")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Saved classifiers as arrays and config; one has edits of every kind to take back."""
    folder, made = tmp_path_factory.mktemp("saved"), {}
    for method in METHODS:
        classifier = ImageClassifier("fake", method, store=None).fit(PHOTOS[:9], LABELS[:9])
        if method == "tip-adapter":
            ids = classifier.model_.shots.ids
            classifier.add_shots(PHOTOS[9:10], ["red"])
            classifier.remove_shots(ids[:1])
            classifier.relabel(ids[1:2], "green")
            classifier.add_class("grey", "a word")
            classifier.rename_class("grey", "gray")
            classifier.remove_class("gray")
            classifier.refit()
        classifier.save(folder / method)
        bundle = load_bundle(folder / method)
        made[method] = (bundle.arrays, bundle.config, bundle.read_thumbnails()[0])
    return made


def use(path):
    """What people do with a classifier; the output is sane."""
    classifier = ImageClassifier.load(path, store=None)
    probabilities = classifier.predict_proba(PHOTOS[9:])
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    json.dumps([one.to_dict() for one in classifier.explain(PHOTOS[9:10])], allow_nan=False)
    card_of(classifier.model_)
    while any(entry.undo for entry in classifier.journal):
        classifier.undo()


def refused_or_sane(path, arrays, config, pictures):
    save_bundle(path, arrays, config, pictures)
    message = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            use(path)
        except TipAdapterError as error:
            message = str(error)
    assert len(message) < 600
    assert message.isprintable()


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def with_value(config, path, value):
    changed = copy.deepcopy(config)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


odd_numbers = st.sampled_from([-1, 0, 1, 2, 0.5, 1e300, -1e300, 2**31 - 1, 2**63, 10**299])
odd_values = st.recursive(
    st.none()
    | st.booleans()
    | odd_numbers
    | st.sampled_from(["", "x", "red", "hub:a/b", "../x", "\x1b[1m", "a" * 9999]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "alpha", "held"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def test_the_bundles_are_sane_as_they_are(bundles, tmp_path):
    for method, parts in bundles.items():
        save_bundle(tmp_path / method, *parts)
        use(tmp_path / method)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_anywhere(bundles, tmp_path_factory, data):
    arrays, config, pictures = bundles[data.draw(st.sampled_from(METHODS))]
    place = data.draw(st.sampled_from([each for each in places(config) if each]))
    changed = with_value(config, place, data.draw(odd_values))
    refused_or_sane(tmp_path_factory.mktemp("x") / "c.tip", arrays, changed, pictures)


def changed_array(data, array):
    what = data.draw(st.sampled_from(["value", "cut", "kind", "axes", "again"]))
    if what == "value":
        other = array.copy()
        place = data.draw(st.integers(0, max(array.size - 1, 0)))
        values = [-1, 2**31 - 1, -(2**62)] if array.dtype.kind == "i" else [np.nan, np.inf, -1e30, 1e30, -3.0, 0.0]
        other.reshape(-1)[place : place + data.draw(st.sampled_from([1, 10**9]))] = data.draw(st.sampled_from(values))
        return other
    if what == "cut":
        return array[: data.draw(st.integers(0, len(array)))]
    if what == "kind":
        with np.errstate(invalid="ignore"):
            return array.astype(data.draw(st.sampled_from(["float16", "float32", "float64", "int64", "int8", "bool"])))
    return array.swapaxes(0, -1)[None] if what == "axes" else np.concatenate([array, array])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_array(bundles, tmp_path_factory, data):
    arrays, config, pictures = bundles[data.draw(st.sampled_from(METHODS))]
    name = data.draw(st.sampled_from([*sorted(arrays), None]))
    rest = {key: array for key, array in arrays.items() if key != name}
    new = {"another": np.zeros(3)} if name is None else {name: changed_array(data, arrays[name])}
    refused_or_sane(
        tmp_path_factory.mktemp("x") / "c.tip", rest | data.draw(st.sampled_from([new, {}])), config, pictures
    )


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (
            ("calibration", "temperature"),
            -1,
            "calibration.temperature should be a finite number from 0.001 to 1000, got -1",
        ),
        (("calibration", "temperature"), 0, "calibration.temperature should be"),
        (("encoder", "dim"), 2**31 - 1, "encoder.dim should be a whole number"),
        (("class_names", 1), "red", "class_names should be a list without repetitions"),
        (("class_names", 0), [], r"class_names\[0\] should be the name of a class"),
        (("shots", "ids", 0), "../../x", r"shots.ids\[0\] should be the id of a shot"),
        (("shots", "digests", 0), "a" * 63, r"shots.digests\[0\] should be a SHA-256"),
        (("head", "parameters", "n_classes"), 10**9, "n_classes should be 3"),
        (("journal", 1, "undo", "added"), [1], r"journal\[1\].undo.added\[0\] should be the id of a shot"),
        (("journal", 2, "number"), 1, r"journal\[2\].number should be above 2"),
        (("random_state",), True, "random_state should be a whole number"),
        (("templates",), ["no place"], r"templates\[0\] should be a text with {} in it"),
    ],
)
def test_what_is_wrong_is_named(bundles, tmp_path, place, value, words):
    arrays, config, pictures = bundles["tip-adapter"]
    save_bundle(tmp_path / "c.tip", arrays, with_value(config, place, value), pictures)
    with pytest.raises(ModelFileError, match=words):
        ImageClassifier.load(tmp_path / "c.tip")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("shots.labels", lambda array: array + 2**31, "shots.labels should hold numbers from 0 to 2"),
        ("shots.labels", lambda array: array.astype(np.float32), "shots.labels should be of int32 or int64"),
        ("zero_shot_weights", lambda array: 2 * array, "zero_shot_weights should have rows of length 1"),
        ("shots.features", lambda array: 0 * array, "shots.features should have no row of zeros"),
        ("shots.features", lambda array: array * np.nan, "got nan to nan"),
        ("calibration.familiar", lambda array: array[:-1], "calibration.familiar should be of shape"),
        ("journal.3.features", lambda array: array[:, :-1], "journal.3.features should be of shape"),
    ],
)
def test_arrays_are_named(bundles, tmp_path, name, change, words):
    arrays, config, pictures = bundles["tip-adapter"]
    save_bundle(tmp_path / "c.tip", arrays | {name: change(arrays[name])}, config, pictures)
    with pytest.raises(ModelFileError, match=words):
        ImageClassifier.load(tmp_path / "c.tip")


@pytest.mark.parametrize("name", ["checkpoint", "encoder"])
def test_a_file_names_no_files_that_a_training_would_read_or_write(bundles, tmp_path, name):
    arrays, config, pictures = bundles["tip-adapter"]
    config = with_value(config, ("method", "parameters"), {name: str(tmp_path / "x")})
    save_bundle(tmp_path / "c.tip", arrays, config, pictures)
    classifier = ImageClassifier.load(tmp_path / "c.tip", store=None)
    with pytest.raises(TipAdapterError, match=f"Unknown parameter '{name}'"):
        classifier.refit()
    assert not (tmp_path / "x").exists()


def test_keys_of_any_length_do_not_overflow(bundles, tmp_path):
    arrays, config, pictures = bundles["ape"]
    save_bundle(tmp_path / "c.tip", arrays | {"head.keys": 1e6 * arrays["head.keys"]}, config, pictures)
    with pytest.raises(ModelFileError, match="too long for"):
        ImageClassifier.load(tmp_path / "c.tip")
