"""Explanations of classifiers: what they say is what the classifier does."""

import json

import numpy as np
import pytest

from tip_adapter.classifier import ImageClassifier
from tip_adapter.encoders.fake import FakeEncoder
from tip_adapter.errors import ImageError, InputError
from tip_adapter.explain.explainer import Explainer

EXACT = ["zero-shot", "tip-adapter", "tip-x", "ape", "proker", "gda", "auto", "prototype"]


def fit(photos, method="tip-adapter", **kwargs):
    return ImageClassifier("fake", method, **kwargs).fit(photos / "train")


def queries(photos):
    return sorted((photos / "test").rglob("*.png"))


def unit_features(paths):
    features = FakeEncoder().encode_images(paths)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.mark.parametrize("method", EXACT)
def test_the_parts_are_the_answer(photos, method):
    clf = fit(photos, method)
    probabilities = clf.predict_proba(queries(photos))
    for row, why in zip(probabilities, clf.explain(queries(photos)), strict=True):
        assert why.exact
        assert why.rest is None
        best, second = np.argsort(-row)[:2]
        assert (why.answer, why.runner_up) == (clf.class_names[best], clf.class_names[second])
        assert why.probability == pytest.approx(row[best], abs=1e-5)
        assert why.text.logit + why.shots.logit == pytest.approx(why.logit, rel=1e-5)
        assert why.text.margin + why.shots.margin == pytest.approx(why.margin, rel=1e-5, abs=1e-5)
        if method == "zero-shot":
            assert (why.deciding, why.text_answer, why.shot_margins) == ((), why.answer, None)
            continue
        assert why.shot_margins.sum() == pytest.approx(why.shots.margin, rel=1e-5, abs=1e-6)
        assert sum(why.margin_by_class().values()) == pytest.approx(why.shots.margin, rel=1e-5, abs=1e-6)
        if method in ("proker", "auto"):
            assert "solved again" in why.note or method == "auto"
            continue  # others step in for a shot, so the order is that of what its absence changes
        sizes = [abs(shot.term.margin) for shot in why.deciding]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] == np.abs(why.shot_margins).max()


def test_without_a_shot_is_a_classifier_without_it(photos, tmp_path):
    clf = fit(photos, "tip-adapter", method_parameters={"alpha": 2.0, "beta": 3.0})
    query = queries(photos)[4]
    why = clf.explain(query, shots=3)
    shots = clf.model_.shots
    for shot in why.deciding:
        row = shots.ids.index(shot.id)
        kept = np.delete(np.arange(len(shots)), row)
        paths = [sorted((photos / "train").rglob("*.png"))[index] for index in kept]
        assert shot.name.endswith(sorted((photos / "train").rglob("*.png"))[row].name)
        rest = ImageClassifier("fake", "tip-adapter", method_parameters={"alpha": 2.0, "beta": 3.0})
        rest.fit(paths, [clf.class_names[shots.labels[index]] for index in kept])
        logits = rest.model_.head.logits(unit_features([query]))
        # The calibration stays, too; a fit without the shot has one of its own.
        row_without, best = clf.model_.probabilities(logits)[0], clf.class_names.index(why.answer)
        assert shot.answer_without == rest.class_names[row_without.argmax()]
        assert shot.probability_without == pytest.approx(row_without[best], abs=1e-6)
        assert shot.margin_without == pytest.approx(logits[0, best] - np.delete(logits[0], best).max(), abs=1e-5)


def test_a_deciding_shot_flips_the_answer():
    """One photo of "odd" near the query outweighs the texts; without it the answer is another."""
    rng = np.random.default_rng(0)
    images = [np.clip(rng.integers(0, 255, 3) + rng.integers(-9, 9, (32, 32, 3)), 0, 255) for _ in range(6)]
    images = [image.astype(np.uint8) for image in images]
    clf = ImageClassifier("fake", "tip-adapter", method_parameters={"alpha": 50.0, "beta": 20.0}, store=None)
    clf.fit(images, ["odd", "even"] * 3)
    why = clf.explain(images[2], shots=6)
    assert why.answer == "odd"
    assert why.deciding[0].cosine == pytest.approx(1.0, abs=1e-5)
    for shot in why.deciding:
        assert (shot in why.flipping) == (shot.margin_without < 0)
        assert (shot in why.flipping) == (shot.answer_without != "odd")
    assert why.deciding[0] in why.flipping


def test_knn_says_the_answers_without(photos):
    clf = fit(photos, "knn", method_parameters={"neighbours": 3})
    why = clf.explain(queries(photos)[0])
    assert not why.exact
    assert why.shot_margins is None
    assert [shot.cosine for shot in why.deciding] == sorted((shot.cosine for shot in why.deciding), reverse=True)
    assert all(shot.term is None and shot.answer_without is not None for shot in why.deciding)
    assert "vote" in why.note
    assert why.text_answer is None


def test_other_methods_say_what_they_can_give(photos):
    clf = fit(photos, "linear-probe")
    why = clf.explain(queries(photos)[0])
    assert not why.exact
    assert "linear-probe mixes all shots" in why.note
    assert why.text.margin + why.rest.margin == pytest.approx(why.margin, rel=1e-6)
    assert len(why.deciding) == 5
    assert all(shot.term is None and shot.answer_without is None for shot in why.deciding)
    json.dumps(why.to_dict(all_shots=True), allow_nan=False)


@pytest.mark.parametrize("method", [*EXACT, "knn", "linear-probe"])
@pytest.mark.parametrize("shots", [0, 2, 1000])
def test_json(photos, method, shots):
    clf = fit(photos, method)
    why = clf.explain(queries(photos)[0], shots=shots)
    facts = json.loads(json.dumps(why.to_dict(all_shots=True), allow_nan=False))
    if shots < 1000:  # of which those without any say in the margin are not shown
        assert len(facts["deciding"]) == (0 if method == "zero-shot" else shots)
    assert facts["exact"] == (method in EXACT)
    if facts["exact"] and method != "zero-shot":
        assert len(facts["all_shots"]) == 15
        assert sum(shot["logit"] for shot in facts["all_shots"]) == pytest.approx(facts["shots"]["logit"], rel=1e-5)


def test_saved_and_loaded(photos, tmp_path):
    clf = fit(photos)
    clf.save(tmp_path / "c.tip")
    loaded = ImageClassifier.load(tmp_path / "c.tip")
    one, again = clf.explain(queries(photos)[0]), loaded.explain(queries(photos)[0])
    assert one.to_dict(all_shots=True) == again.to_dict(all_shots=True)
    assert [shot.thumbnail for shot in again.deciding] == [shot.thumbnail for shot in one.deciding]
    assert again.deciding[0].thumbnail.startswith(b"\xff\xd8")


def test_fitted_again_is_explained_anew(photos):
    clf = fit(photos)
    clf.explain(queries(photos)[0])
    clf.fit(photos / "train", shots=1)
    assert len(clf.explain(queries(photos)[0]).shot_ids) == 3


def test_no_weight_for_the_shots(photos):
    why = fit(photos, method_parameters={"alpha": 0.0, "beta": 1.0}).explain(queries(photos)[0])
    assert why.exact
    assert why.deciding == ()
    assert why.shots.logit == 0
    assert why.answer == why.text_answer


def test_two_classes_one_photo_each():
    dark, light = (np.full((32, 32, 3), value, dtype=np.uint8) for value in (30, 220))
    clf = ImageClassifier("fake", "tip-adapter", method_parameters={"alpha": 1.0, "beta": 0.0}, store=None)
    why = clf.fit([dark, light], ["night", "day"]).explain(dark)
    # β = 0: all shots are equally near, so they say nothing about the margin.
    assert why.shots.margin == 0
    assert why.margin == pytest.approx(why.text.margin)
    # Without the only shot of a class, the texts are all that tells the two apart.
    assert all(shot.margin_without == pytest.approx(why.text.margin) for shot in why.deciding)


def test_a_list_gives_a_list(photos):
    clf = fit(photos)
    assert [why.path for why in clf.explain([queries(photos)[0]])] == [str(queries(photos)[0])]
    with pytest.raises(InputError, match="at least one image"):
        clf.explain([])
    assert "0" in clf.explain(np.zeros((32, 32, 3), np.uint8)).path


def test_bad_input(photos, tmp_path):
    clf = fit(photos)
    with pytest.raises(InputError, match="at least 0, got -1"):
        clf.explain(queries(photos)[0], shots=-1)
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        clf.explain(tmp_path / "bad.jpg")
    assert len(clf.explain([queries(photos)[0], tmp_path / "bad.jpg"], skip_bad=True)) == 1
    with pytest.raises(InputError, match="not fitted"):
        ImageClassifier("fake").explain(queries(photos)[0])


def test_many_queries_in_parts_are_each_alone(photos, monkeypatch):
    clf = fit(photos)
    features = unit_features(queries(photos))
    names = [path.name for path in queries(photos)]
    together = Explainer(clf.model_).explain(features, names)
    monkeypatch.setattr("tip_adapter.methods.heads.base.CHUNK_ELEMENTS", 20)
    alone = Explainer(clf.model_).explain(features, names)
    for one, other in zip(together, alone, strict=True):
        assert one.margin == pytest.approx(other.margin, rel=1e-5)
        assert [shot.id for shot in one.deciding] == [shot.id for shot in other.deciding]
