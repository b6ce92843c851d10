"""Edits of a classifier equal a fresh fit with the same hyper-parameters; undo, journal, bad input."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tip_adapter.classifier import ImageClassifier
from tip_adapter.errors import DatasetError, EncoderError, ImageError, InputError
from tip_adapter.features.prompts import prompt_features
from tip_adapter.methods import METHODS

TRAINING_FREE = [name for name, cls in METHODS.items() if not (cls.trains or cls.needs_encoder or cls.transductive)]
CLASSES = ("hat", "scarf", "shoe")


def photo(name, number):
    rng = np.random.default_rng([len(name), CLASSES.index(name) if name in CLASSES else 9, number])
    base = {"hat": (200, 60, 60), "scarf": (60, 200, 60), "shoe": (60, 60, 200)}.get(name, (128, 128, 128))
    return np.clip(np.array(base) + rng.integers(-60, 60, (24, 24, 3)), 0, 255).astype(np.uint8)


def photos_of(counts, start=0):
    return zip(*[(photo(n, start + i), n) for n, count in counts.items() for i in range(count)], strict=True)


def fitted(method="tip-adapter", counts=None, **parameters):
    images, labels = photos_of(counts or {"hat": 4, "scarf": 5, "shoe": 4})
    return ImageClassifier("fake", method, method_parameters=parameters, store=None).fit(list(images), list(labels))


QUERIES = [photo(name, 100 + number) for name in CLASSES for number in range(4)]


def logits(classifier):
    """Columns by class name, of unseen photos."""
    features = classifier._photos.extract(QUERIES).features.unit
    answers = classifier.model_.head.logits(features).astype(np.float64)
    return dict(zip(classifier.class_names, answers.T, strict=True))


def fresh_fit(classifier):
    """Another classifier, fitted from the photos' features by the estimator itself, with what is held as given."""
    model = classifier.model_
    cls, held = METHODS[model.method.name], {**model.method.parameters, **model.method.held}
    # In another order, with classes in another order, too: nothing may depend on it.
    columns = np.argsort(model.class_names)
    place = np.argsort(columns)
    order = np.random.default_rng(0).permutation(len(model.shots))
    if cls.takes_prompts:
        held["prompt_features"] = prompt_features(classifier.encoder, model.class_texts, model.templates)[columns]
    estimator = cls(model.zero_shot_weights[columns], logit_scale=model.encoder.logit_scale, **held)
    estimator.fit(model.shots.features.unit[order], place[model.shots.labels[order]])
    features = classifier._photos.extract(QUERIES).features.unit
    answers = estimator.logits(features).astype(np.float64)
    return dict(zip(np.array(model.class_names)[columns], answers.T, strict=True))


def assert_same(one, other):
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("method", TRAINING_FREE)
def test_edits_equal_a_fresh_fit_with_the_same_hyper_parameters(method):
    classifier = fitted(method)
    before, held = logits(classifier), classifier.model_.method.held
    images, labels = photos_of({"shoe": 2, "hat": 1}, start=50)
    added = classifier.add_shots(list(images), list(labels))
    assert len(added.ids) == 3
    classifier.remove_shots([classifier.model_.shots.ids[0], classifier.model_.shots.ids[6]])
    classifier.relabel([classifier.model_.shots.ids[1]], "scarf")
    classifier.add_class("belt", "leather belt", images=[photo("belt", 0), photo("belt", 1)])
    classifier.rename_class("scarf", "shawl", "a woollen shawl")
    classifier.remove_class("shoe")
    assert classifier.model_.method.held == held
    assert classifier.class_names == ("hat", "shawl", "belt")
    assert classifier.model_.counts.tolist() == [3, 5, 2]
    assert_same(logits(classifier), fresh_fit(classifier))
    for _ in range(6):
        classifier.undo()
    assert classifier.model_.stale == ()
    for name, column in logits(classifier).items():
        np.testing.assert_array_equal(column, before[name])


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "relabel", "undo"]), st.integers(0, 99)), max_size=8))
def test_any_sequence_of_edits_equals_a_fresh_fit_and_can_be_taken_back(steps):
    classifier = fitted()
    first = classifier.model_
    for step, number in steps:
        ids = classifier.model_.shots.ids
        if step == "add":
            name = CLASSES[number % 3]
            classifier.add_shots([photo(name, 200 + number)], [name])
        elif step == "remove":
            classifier.remove_shots([ids[number % len(ids)]])
        elif step == "relabel":
            row, model = number % len(ids), classifier.model_
            classifier.relabel([ids[row]], CLASSES[(model.shots.labels[row] + 1) % 3])
        elif any(entry.undo for entry in classifier.journal):
            classifier.undo()
    assert_same(logits(classifier), fresh_fit(classifier))
    while any(entry.undo for entry in classifier.journal):
        classifier.undo()
    model = classifier.model_
    assert model.shots.ids == first.shots.ids
    np.testing.assert_array_equal(model.shots.features.raw, first.shots.features.raw)
    np.testing.assert_array_equal(model.head.keys, first.head.keys)
    np.testing.assert_array_equal(model.shots.labels, first.shots.labels)


def test_only_new_photos_are_encoded(monkeypatch):
    classifier = fitted()
    seen = []
    encode = classifier.encoder.encode_pixels
    monkeypatch.setattr(classifier.encoder, "encode_pixels", lambda pixels: seen.append(len(pixels)) or encode(pixels))
    monkeypatch.setattr(classifier.encoder, "encode_texts", lambda texts: pytest.fail(f"encoded {texts}"))
    classifier.add_shots([photo("hat", 70), photo("shoe", 71)], ["hat", "shoe"])
    assert seen == [2]
    ids = classifier.model_.shots.ids
    classifier.remove_shots(ids[:2])
    classifier.relabel(ids[4:5], "shoe")
    classifier.rename_class("hat", "cap")
    classifier.remove_class("scarf")
    classifier.refit()
    classifier.undo()
    classifier.undo()
    assert seen == [2]


@pytest.mark.parametrize("method", ["tip-adapter", "auto", "gda"])
def test_refit_chooses_as_a_fresh_fit_does_and_can_be_taken_back(method):
    classifier = fitted(method)
    images, labels = photos_of({"shoe": 3, "hat": 4}, start=50)
    classifier.add_shots(list(images), list(labels))
    assert "hyper-parameters" in classifier.model_.stale
    held = classifier.model_.method.held
    edited = logits(classifier)
    classifier.refit()
    assert "hyper-parameters" not in classifier.model_.stale
    images, labels = photos_of({"hat": 4, "scarf": 5, "shoe": 4})
    more, names = photos_of({"shoe": 3, "hat": 4}, start=50)
    fresh = ImageClassifier("fake", method, store=None).fit([*images, *more], [*labels, *names])
    assert_same(logits(classifier), logits(fresh))
    classifier.undo()
    assert classifier.model_.method.held == held
    assert "hyper-parameters" in classifier.model_.stale
    assert_same(logits(classifier), edited)


def test_what_is_given_is_never_stale():
    classifier = fitted(alpha=1.0, beta=3.0)
    classifier.remove_shots(classifier.model_.shots.ids[:1])
    assert "hyper-parameters" not in classifier.model_.stale


def test_renaming_changes_no_answer_and_makes_nothing_stale():
    classifier = fitted()
    before = logits(classifier)
    classifier.rename_class("scarf", "shawl")
    assert classifier.model_.stale == ()
    after = logits(classifier)
    np.testing.assert_array_equal(after["shawl"], before["scarf"])


def test_the_journal_is_saved_and_undo_works_after_loading(tmp_path):
    classifier = fitted()
    before, pictures = logits(classifier), dict(classifier.model_.shots.thumbnails)
    classifier.remove_class("scarf")
    classifier.relabel(classifier.model_.shots.ids[:1], "shoe")
    classifier.refit()
    classifier.save(tmp_path / "c.tip")
    loaded = ImageClassifier.load(tmp_path / "c.tip", store=None)
    assert [entry.action for entry in loaded.journal] == ["fit", "remove-class", "relabel", "refit"]
    assert [entry.to_dict() for entry in loaded.journal] == [entry.to_dict() for entry in classifier.journal]
    assert loaded.model_.stale == classifier.model_.stale
    undone = [loaded.undo().action for _ in range(3)]
    assert undone == ["refit", "relabel", "remove-class"]
    assert loaded.journal[-1].action == "undo"
    assert loaded.class_names == CLASSES
    assert dict(loaded.model_.shots.thumbnails) == pictures
    for name, column in logits(loaded).items():
        np.testing.assert_array_equal(column, before[name])
    with pytest.raises(InputError, match="nothing to undo"):
        loaded.undo()
    loaded.save(tmp_path / "again.tip")
    assert dict(ImageClassifier.load(tmp_path / "again.tip").model_.shots.thumbnails) == pictures


def test_a_photo_that_is_there_is_told_and_not_doubled():
    classifier = fitted()
    model = classifier.model_
    added = classifier.add_shots([photo("hat", 0), photo("hat", 80), photo("hat", 80)], ["shoe", "hat", "hat"])
    assert len(added.ids) == 1
    assert [(shot, name) for _, shot, name in added.known] == [(model.shots.ids[0], "hat"), (added.ids[0], "hat")]
    assert len(classifier.model_.shots) == len(model.shots) + 1
    again = classifier.add_shots([photo("hat", 80)], ["hat"])
    assert again.ids == ()
    assert [entry.action for entry in classifier.journal] == ["fit", "add"]


def test_shots_are_found_by_id_beginning_and_name(tmp_path):
    from PIL import Image

    for name in CLASSES:
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(photo(name, number)).save(tmp_path / "data" / name / f"{name}-{number}.png")
    classifier = ImageClassifier("fake", store=None).fit(tmp_path / "data")
    ids = classifier.model_.shots.ids
    assert classifier.remove_shots(["hat-1.png", ids[5][:6]]) == (ids[1], ids[5])


BAD = [
    (lambda c: c.remove_shots(["nothing"]), InputError, "no shot 'nothing'.*list them"),
    (lambda c: c.remove_shots([]), InputError, "at least one shot"),
    (lambda c: c.remove_shots("abcd"), InputError, "put it into a list"),
    (lambda c: c.remove_shots(c.model_.shots.ids), InputError, "at least one shot to remain"),
    (lambda c: c.relabel(c.model_.shots.ids[:1], "sock"), InputError, "no class 'sock'.*hat, scarf"),
    (lambda c: c.relabel(c.model_.shots.ids[:1], "hat"), InputError, "'hat' already"),
    (lambda c: c.add_class("hat"), InputError, "a class 'hat' already"),
    (lambda c: c.add_class(" "), InputError, "a name for the class"),
    (lambda c: c.add_class("belt", ()), InputError, "neither for 'belt'"),
    (lambda c: c.add_class("belt", images=[photo("hat", 0)]), InputError, "of 'hat' already"),
    (lambda c: c.rename_class("sock", "socks"), InputError, "no class 'sock'"),
    (lambda c: c.rename_class("hat", "shoe"), InputError, "a class 'shoe' already"),
    (lambda c: c.remove_class("sock"), InputError, "no class 'sock'"),
    (lambda c: c.add_shots([photo("hat", 90)], ["sock"]), DatasetError, "sock.*--new-classes"),
    (lambda c: c.add_shots([photo("hat", 90)], ["hat", "hat"]), InputError, "label for each"),
    (lambda c: c.add_shots([b"no picture"], ["hat"]), ImageError, "image"),
    (lambda c: c.undo(), InputError, "nothing to undo"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_input_is_told_and_changes_nothing(number):
    act, error, words = BAD[number]
    classifier = fitted()
    before = classifier.model_
    with pytest.raises(error, match=words):
        act(classifier)
    assert classifier.model_ is before


def test_the_last_shot_of_a_class_may_go_where_it_has_text():
    classifier = fitted(counts={"hat": 1, "scarf": 3, "shoe": 3})
    classifier.remove_shots(classifier.model_.shots.ids[:1])
    assert classifier.model_.counts.tolist() == [0, 3, 3]
    assert_same(logits(classifier), fresh_fit(classifier))
    classifier.undo()
    classifier.rename_class("hat", "hat", ())
    with pytest.raises(InputError, match="neither for 'hat'"):
        classifier.remove_shots(classifier.model_.shots.ids[:1])
    with pytest.raises(InputError, match="neither for 'hat'"):
        classifier.relabel(classifier.model_.shots.ids[:1], "shoe")


def test_a_class_of_shots_alone():
    classifier = fitted()
    classifier.add_class("belt", (), images=[photo("belt", 0), photo("belt", 1)])
    assert np.isnan(classifier.model_.zero_shot_weights[3]).all()
    assert_same(logits(classifier), fresh_fit(classifier))


def test_another_encoder_is_refused_before_anything_changes():
    classifier = fitted()
    before = classifier.model_
    classifier._photos._loaded = None
    record = dataclasses.replace(before.encoder, image_id="another")
    classifier._photos.made_by = record
    with pytest.raises(EncoderError, match="fitted with the encoder"):
        classifier.add_shots([photo("hat", 90)], ["hat"])
    assert classifier.model_.shots is before.shots


def test_new_classes_come_with_their_photos():
    classifier = fitted()
    images = [photo("belt", number) for number in range(2)]
    added = classifier.add_shots([*images, photo("hat", 60)], ["belt", "belt", "hat"], new_classes=True)
    assert len(added.ids) == 3
    assert classifier.class_names == (*CLASSES, "belt")
    assert classifier.model_.counts.tolist() == [5, 5, 4, 2]
    assert classifier.model_.class_texts[3] == ("belt",)


def test_a_method_that_trains_says_what_to_do(monkeypatch):
    classifier = fitted("linear-probe")
    record = dataclasses.replace(classifier.model_.method, trains=True)
    classifier._live.put(dataclasses.replace(classifier.model_, method=record))
    with pytest.raises(InputError, match=r"trains.*refit=True, --refit"):
        classifier.remove_shots(classifier.model_.shots.ids[:1])
    classifier.remove_shots(classifier.model_.shots.ids[:1], refit=True)
    assert len(classifier.model_.shots) == 12
    head = classifier.model_.head
    monkeypatch.setattr("tip_adapter.classifier.refitting.fit_method", lambda *_: pytest.fail("trained again"))
    assert classifier.purge() == 1
    assert classifier.model_.head is head


@pytest.mark.parametrize("method", ["tip-adapter", "auto"])
def test_a_refit_that_amends_is_taken_back_with_its_edit(method):
    images, labels = photos_of({"shoe": 3, "hat": 4}, start=50)
    classifier, at_once = fitted(method), fitted(method)
    before, chosen = logits(classifier), classifier.model_.method.held
    classifier.add_shots(list(images), list(labels))
    classifier.refit(amend=True)
    at_once.add_shots(list(images), list(labels), refit=True)
    assert_same(logits(classifier), logits(at_once))
    assert [entry.action for entry in classifier.journal] == ["fit", "add"]
    assert classifier.model_.stale == ()
    assert classifier.undo().action == "add"
    assert_same(logits(classifier), before)
    assert (classifier.model_.method.held, classifier.model_.stale) == (chosen, ())


def test_a_refit_after_an_undo_belongs_to_the_edit_that_still_counts():
    classifier = fitted()
    chosen = classifier.model_.method.held
    for number in (60, 61):
        classifier.add_shots([photo("hat", number)], ["hat"])
    classifier.undo()
    classifier.refit(amend=True)
    classifier.undo()
    assert (classifier.model_.method.held, classifier.model_.stale) == (chosen, ())
    classifier.refit(amend=True)  # nothing is left to take back
    with pytest.raises(InputError, match="nothing to undo"):
        classifier.undo()
