"""Methods that train on views get every view of every shot: at first, after edits, and from a saved classifier."""

import dataclasses

import numpy as np
import pytest

from tip_adapter.classifier import ImageClassifier
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import ModelFileError
from tip_adapter.features.extraction import extract_features
from tip_adapter.methods import METHODS
from tip_adapter.methods.heads import head_state
from tip_adapter.model.fitting import calibrate_on_shots, make_estimator
from tip_adapter.storage.bundles import load_bundle, save_bundle

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

CLASSES, VIEWS, SEED = ("hat", "scarf", "shoe"), 3, 5
SHORT = {
    "tip-adapter-f": {"epochs": 3, "max_folds": 2},
    "clip-adapter": {"epochs": 3, "max_folds": 2},
    "task-res": {"epochs": 3},
    "clap": {"epochs": 3},
}


@pytest.fixture(autouse=True)
def one_thread():
    """Of torch: more would wait for each other longer than they work on numbers so few."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def photo(name, number):
    """A photo in the colour of its class whose views differ: a part of it has another colour."""
    rng = np.random.default_rng([sum(map(ord, name)), number])
    pixels = np.full((32, 32, 3), np.random.default_rng(sum(map(ord, name))).integers(0, 255, 3))
    pixels[:, : rng.integers(4, 12)] = rng.integers(0, 255, 3)
    return np.clip(pixels + rng.integers(-30, 30, (32, 32, 3)), 0, 255).astype(np.uint8)


def photos_of(counts, start=0):
    return zip(*[(photo(n, start + i), n) for n, count in counts.items() for i in range(count)], strict=True)


def fitted(method="task-res", views=VIEWS, counts=(4, 5, 4), store=None, **parameters):
    images, labels = photos_of(dict(zip(CLASSES, counts, strict=True)))
    chosen = {**SHORT.get(method, {}), **parameters}
    classifier = ImageClassifier("fake", method, method_parameters=chosen, views=views, store=store)
    return classifier.fit(list(images), list(labels), groups=range(len(labels)), random_state=SEED)


ALL = [photo(name, number) for name in (*CLASSES, "belt") for number in (*range(6), 50, 51)]
QUERIES = [photo(name, 100 + number) for name in CLASSES for number in range(3)]


def encoded(photos):
    return extract_features(load_encoder("fake"), photos, views=VIEWS, random_state=SEED).features


def encoded_again(classifier):
    """Features of the model's shots, made from the photos apart from the classifier."""
    known = encoded(ALL)
    digests = classifier.model_.shots.features.digests
    return known.subset([known.digests.index(one) for one in digests])


def middle_views(classifier):
    """The model's shots as photos to classify are seen."""
    known = extract_features(load_encoder("fake"), ALL).features
    return known.subset([known.digests.index(one) for one in classifier.model_.shots.features.digests]).unit


def method_on(classifier, features, *, with_views=True, held=False, asked=None):
    """The method itself, fitted to features as a user of features does, and asked about views of their own."""
    model = classifier.model_
    parameters = {**model.method.parameters, **(model.method.held if held else {})}
    estimator = METHODS[model.method.name](model.zero_shot_weights, logit_scale=model.encoder.logit_scale, **parameters)
    norms = np.linalg.norm(features.raw, axis=2, keepdims=True)
    views = {"views": features.raw / norms} if with_views else {}
    return estimator.fit(features.unit, model.shots.labels, queries=asked, **views)


def queries(classifier):
    return classifier._photos.extract(QUERIES).features.unit


def assert_answers_as(classifier, method):
    asked = queries(classifier)
    np.testing.assert_allclose(classifier.model_.head.logits(asked), method.logits(asked), rtol=1e-5, atol=1e-5)


def assert_differs(classifier, method):
    asked = queries(classifier)
    assert np.abs(classifier.model_.head.logits(asked) - method.logits(asked)).max() > 1e-3


@pytest.mark.parametrize("method", SHORT)
def test_a_trained_method_gets_every_view(method):
    classifier = fitted(method)
    features = encoded_again(classifier)
    np.testing.assert_array_equal(classifier.model_.shots.features.raw, features.raw)
    assert features.raw.shape == (13, VIEWS, 64)
    asked = middle_views(classifier)
    assert_answers_as(classifier, method_on(classifier, features, asked=asked))
    assert_differs(classifier, method_on(classifier, features, with_views=False, asked=asked))


def test_coop_gets_every_view(tiny_clip):
    images, labels = photos_of({"hat": 2, "shoe": 2})
    settings = {"epochs": 1, "n_context": 2, "learning_rate": 0.1}
    classifier = ImageClassifier(f"huggingface:{tiny_clip}", "coop", method_parameters=settings, views=2, store=None)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        fit = METHODS["coop"].fit
        patch.setattr(METHODS["coop"], "fit", lambda *args, **given: seen.append(given) or fit(*args, **given))
        classifier.fit(list(images), list(labels))
    np.testing.assert_array_equal(seen[0]["views"], classifier.model_.shots.features.unit_views)
    assert seen[0]["views"].shape[:2] == (4, 2)


@pytest.mark.parametrize("method", ["tip-adapter", "auto", "gda", "linear-probe", "lp-plus-plus"])
def test_other_methods_keep_the_means_alone(method, tmp_path):
    classifier = fitted(method)
    assert not METHODS[method].takes_views
    assert classifier.model_.shots.features.raw.shape == (13, 1, 64)
    classifier.save(tmp_path / "c.tip")
    assert "shots.views" not in load_bundle(tmp_path / "c.tip").arrays
    features, asked = encoded_again(classifier), middle_views(classifier)
    assert_answers_as(classifier, method_on(classifier, features, with_views=False, asked=asked))


@pytest.mark.parametrize("method", ["tip-adapter", "auto", "gda", "tip-adapter-f"])
def test_shots_are_asked_about_by_single_views_at_first_and_again(method, tmp_path):
    classifier = fitted(method, store=tmp_path / "features.sqlite3")
    features, with_views = encoded_again(classifier), METHODS[method].takes_views
    assert_differs(classifier, method_on(classifier, features, with_views=with_views))
    classifier.refit()
    expected = method_on(classifier, features, with_views=with_views, asked=middle_views(classifier))
    assert_answers_as(classifier, expected)


def test_what_a_class_says_is_what_fit_takes():
    import inspect

    for cls in METHODS.values():
        assert cls.takes_views == ("views" in inspect.signature(cls.fit).parameters)


@pytest.mark.parametrize("method", ["tip-adapter-f", "task-res"])
def test_edits_equal_a_fresh_fit_and_carry_the_views(method, tmp_path):
    store = tmp_path / "features.sqlite3"
    classifier = fitted(method, store=store)
    before = classifier.model_

    def check(rows):
        features = encoded_again(classifier)
        assert len(features) == rows
        np.testing.assert_array_equal(classifier.model_.shots.features.raw, features.raw)
        assert_answers_as(classifier, method_on(classifier, features, asked=middle_views(classifier)))
        assert_answers_as(classifier, method_on(classifier, features, held=True))
        assert_differs(classifier, method_on(classifier, features, with_views=False))

    images, labels = photos_of({"shoe": 2, "hat": 1}, start=50)
    classifier.add_shots(list(images), list(labels), refit=True)
    check(16)
    ids = classifier.model_.shots.ids
    classifier.remove_shots([ids[0], ids[7]], refit=True)
    classifier.relabel([classifier.model_.shots.ids[1]], "scarf", refit=True)
    check(14)
    classifier.add_class("belt", "leather belt", images=[photo("belt", 0), photo("belt", 1)], refit=True)
    classifier.remove_class("shoe", refit=True)
    check(10)
    classifier.save(tmp_path / "c.tip")
    classifier = ImageClassifier.load(tmp_path / "c.tip", store=store)
    for _ in range(5):
        classifier.undo(refit=True)
    check(13)
    assert classifier.model_.shots.ids == before.shots.ids
    np.testing.assert_array_equal(classifier.model_.shots.features.raw, before.shots.features.raw)
    asked = queries(classifier)
    np.testing.assert_array_equal(classifier.model_.head.logits(asked), before.head.logits(asked))


def test_a_saved_classifier_trains_on_the_views_again(tmp_path):
    store = tmp_path / "features.sqlite3"
    classifier = fitted("tip-adapter-f", store=store)
    classifier.save(tmp_path / "c.tip")
    loaded = ImageClassifier.load(tmp_path / "c.tip", store=store)
    shots, again = classifier.model_.shots.features, loaded.model_.shots.features
    assert again.raw.tobytes() == shots.raw.tobytes()
    np.testing.assert_array_equal(again.unit, shots.unit)
    assert "features of each view" in (tmp_path / "c.tip" / "README.md").read_text()
    loaded.refit()
    first, second = (head_state(one.model_.head)[1] for one in (classifier, loaded))
    for name, array in first.items():
        np.testing.assert_array_equal(second[name], array)


def rewritten(path, change):
    """Save a classifier again with other arrays, as nobody should."""
    bundle = load_bundle(path)
    save_bundle(path, change(dict(bundle.arrays)), bundle.config, bundle.read_thumbnails()[0])


def test_views_that_do_not_fit_the_shots_are_refused(tmp_path):
    fitted().save(tmp_path / "c.tip")
    rewritten(tmp_path / "c.tip", lambda arrays: arrays | {"shots.views": arrays["shots.views"][1:]})
    with pytest.raises(ModelFileError, match=r"shots.views should be of shape .*N = 13.*, got \(12, 3, 64\)"):
        ImageClassifier.load(tmp_path / "c.tip", store=None)


def test_no_byte_of_a_view_of_a_forgotten_photo_stays(tmp_path):
    place, store = tmp_path / "c.tip", tmp_path / "features.sqlite3"
    classifier = fitted("tip-adapter-f", store=store)
    shots = classifier.model_.shots
    features = shots.features
    found = {}
    for row, what in ((2, "forgotten"), (6, "removed, then forgotten")):
        mean = features.averaged().raw[row, 0]
        for name, vector in [("mean", mean), *((f"view {view}", features.raw[row, view]) for view in range(VIEWS))]:
            found[f"{what}: {name}"] = vector.tobytes()
            found[f"{what}: half of {name}"] = vector.tobytes()[128:]

    def there():
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return {name for name, data in found.items() if any(data in path.read_bytes() for path in files)}

    classifier.save(place)
    assert there() == set(found)
    with ImageClassifier.editing(place, store=store) as edited:
        edited.remove_shots([shots.ids[6]], refit=True)
    assert there() == set(found)
    with ImageClassifier.editing(place, store=store) as edited:
        edited.remove_shots([shots.ids[2]], forget=True, refit=True)
        assert edited.purge() == 1
    assert there() == set()
    # What was not forgotten is trained on view by view as before.
    again = ImageClassifier.load(place, store=store)
    assert again.model_.shots.features.raw.shape == (11, VIEWS, 64)
    assert_answers_as(again, method_on(again, encoded_again(again), asked=middle_views(again)))


def test_calibration_rests_on_fits_to_the_views_of_the_other_shots():
    classifier = fitted("task-res")
    model, features = classifier.model_, encoded_again(classifier)
    images, _ = photos_of(dict(zip(CLASSES, (4, 5, 4), strict=True)))
    asked = classifier._photos.extract(list(images)).features.unit
    method = method_on(classifier, features)

    def calibration(**given):
        return calibrate_on_shots(method, features.unit, model.shots.labels, asked, **given).state()[0]

    own, expected, on_means = model.calibration.state()[0], calibration(views=features.unit_views), calibration()
    assert own
    for name, array in own.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert any(np.abs(array - on_means[name]).max() > 1e-3 for name, array in own.items())


@pytest.mark.parametrize("method", ["task-res", "gda"])
def test_after_new_shots_a_refit_calibrates_as_a_fresh_fit_does(method, tmp_path):
    classifier = fitted(method, store=tmp_path / "features.sqlite3")
    # Of the last class, so that the fresh fit has them in the same order: a training goes through the shots in theirs.
    images, labels = photos_of({CLASSES[-1]: 2}, start=50)
    classifier.add_shots(list(images), list(labels), refit=True)
    assert classifier.model_.stale == ()
    digests = classifier.model_.shots.features.digests
    known = dict(zip(encoded(ALL).digests, ALL, strict=True))
    names = [classifier.class_names[label] for label in classifier.model_.shots.labels]
    fresh = ImageClassifier("fake", method, method_parameters=SHORT.get(method, {}), views=VIEWS, store=None)
    fresh.fit([known[one] for one in digests], names, groups=range(len(names)), random_state=SEED)
    expected = fresh.model_.calibration.state()[0]
    for name, array in classifier.model_.calibration.state()[0].items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_bar_of_the_callers_own_counts_the_training():
    class Bar:
        def __init__(self):
            self.steps = []

        def __deepcopy__(self, memo):
            raise TypeError("a bar that holds a lock cannot be copied")

        def advance(self, done, total, loss):
            self.steps.append((done, total))

    bar = Bar()
    method = make_estimator("task-res", SHORT["task-res"])
    images, labels = photos_of(dict.fromkeys(CLASSES, 3))
    classifier = ImageClassifier("fake", method, store=None).fit(list(images), list(labels), progress=bar.advance)
    assert bar.steps
    assert bar.steps[-1][0] == bar.steps[-1][1]
    assert dataclasses.asdict(classifier.model_.method)["parameters"]["epochs"] == 3
