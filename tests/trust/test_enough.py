"""Whether there are enough photos: what can be foreseen from left-out answers, and what cannot."""

import json

import numpy as np
import pytest

from tip_adapter import ImageClassifier
from tip_adapter.methods import TipAdapter
from tip_adapter.methods.left_out import LeftOut, left_out_logits
from tip_adapter.trust.duplicates import Photos
from tip_adapter.trust.enough import enough
from tip_adapter.trust.shot_hints import shot_hints

NAMES = tuple(f"class {number}" for number in range(6))


def draw(counts, noise=0.6, seed=0):
    """Unit features around axes, so many of each class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    features = np.eye(16)[labels] + noise * rng.normal(size=(len(labels), 16)) / 2
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), labels


def found(features, labels, groups=None, names=NAMES, text=None, **options):
    method = TipAdapter(text, class_names=names, logit_scale=20.0).fit(features, labels, groups=groups)
    return enough(left_out_logits(method, features, labels, groups=groups), labels, groups, names, **options)


def curve(count):
    """Left-out answers of two classes that are the surer the more is known of them: the law, without chance."""
    labels, folds = np.repeat([0, 1], count), np.tile(np.arange(count), 2)
    sure = [0.6 - 0.5 / (count - out + 2) for out in (1, 2)]
    now, fewer = (np.log(p / (1 - p)) * np.eye(2)[labels] for p in sure)
    return LeftOut(now, labels, np.arange(2 * count), folds, count, 2.0, fewer), labels


def test_the_gain_goes_on_along_the_law():
    answers, labels = curve(8)
    told = enough(answers, labels, None, NAMES[:2])
    for one in (*told.classes, told):
        assert one.gain == pytest.approx(0.5 * (1 / 10 - 1 / 11), rel=0.15)
        assert one.gain_interval[0] < one.gain < one.gain_interval[1]


def test_the_verdict_follows_what_a_photo_has_to_be_worth():
    answers, labels = curve(8)
    verdicts = [enough(answers, labels, None, NAMES[:2], worth=worth).verdict for worth in (0.05, 0.005, 0.001)]
    assert verdicts[0] == "enough"
    assert "enough" not in verdicts[1:]
    assert enough(*curve(40), None, NAMES[:2]).verdict == "enough"


def test_many_easy_photos_are_enough_and_few_are_not():
    easy = draw([20] * 6, noise=0.2)
    assert {one.verdict for one in found(*easy).classes} == {"enough"}
    few = found(*draw([2] * 6))
    assert "enough" not in {one.verdict for one in few.classes}


def test_of_a_class_with_one_photo_nothing_is_said_and_it_comes_first():
    told = found(*draw([8, 8, 8, 8, 8, 1]))
    alone = told.classes[-1]
    assert (alone.photos, alone.asked, alone.accuracy, alone.gain) == (1, 0, None, None)
    assert alone.verdict == "too few to say"
    assert told.neediest[0] is alone
    assert told.verdict != "enough"
    assert all(one.asked == 8 for one in told.classes[:-1])


def test_a_burst_is_one_photo():
    features, labels = draw([1, 8, 8, 8, 8, 8])
    burst = np.repeat(features[:1], 10, axis=0)
    told = found(
        np.vstack([burst, features[1:]]),
        np.concatenate([np.zeros(10, dtype=int), labels[1:]]),
        np.concatenate([np.zeros(10, dtype=int), np.arange(1, len(labels))]),
    )
    assert (told.photos, told.groups) == (50, 41)
    assert (told.classes[0].photos, told.classes[0].groups) == (10, 1)
    assert told.classes[0].verdict == "too few to say"


@pytest.mark.parametrize("counts", [(1, 1), (2, 2), (3, 1), (5, 4)])
def test_two_classes_without_texts(counts):
    told = found(*draw(counts), names=NAMES[:2])
    assert told.photos == sum(counts)
    assert all(one.verdict in ("enough", "more would help", "too few to say") for one in told.classes)
    json.dumps(told.to_dict(), allow_nan=False)


def test_a_class_that_is_mixed_up_gains_more_than_others():
    features, labels = draw([8] * 6, noise=0.4)
    features[:4] = features[8:12][::-1]
    told = found(features, labels)
    first = told.neediest[0]
    assert first.name in ("class 0", "class 1")
    assert {told.classes[0].taken_for, told.classes[1].taken_for} <= {"class 0", "class 1", None}


def test_a_classifier_tells_and_so_does_the_doctor():
    shades = [shade + step for shade in (30, 220) for step in (0, 3, 6, 9)]
    images = [np.full((32, 32, 3), shade, dtype=np.uint8) for shade in shades]
    clf = ImageClassifier("fake", store=None).fit(images, ["night"] * 4 + ["day"] * 4)
    told = clf.enough()
    assert (told.photos, told.asked) == (8, 8)
    assert [one.name for one in told.classes] == ["day", "night"]
    assert clf.doctor().enough == clf.enough(hints=False)
    assert {hint.reason for hint in told.hints if hint.kind == "tiny picture"} == {"tiny picture: 32 × 32 pixels"}


def test_shots_to_look_at():
    features, labels = draw([10, 10, 10], noise=0.2)
    labels[3] = 1  # a wrong label
    features[29] = features[0]  # one photo in two classes
    features[9] = features[8]  # two of a kind, told
    features[7] = features[6]  # two frames of a burst, counted as one
    groups = np.arange(30)
    groups[7] = groups[6]
    names, digests = tuple(f"{row}" for row in range(30)), tuple(f"file {row}" for row in range(30))
    method = TipAdapter(None, class_names=NAMES[:3], logit_scale=20.0).fit(features, labels, groups=groups)
    answers = left_out_logits(method, features, labels, groups=groups)
    shots = Photos(features, labels, names, digests, groups=groups)
    found = shot_hints(shots, answers, NAMES[:3], {"5": (63, 200), "6": (64, 64)})
    doubtful = [hint for hint in found if hint.kind == "doubtful label"]
    assert {hint.shot for hint in doubtful} >= {"3", "29"}
    assert {hint.shot for hint in found if hint.kind == "near-copy"} == {"0", "29", "9"}
    assert [hint.shot for hint in found if hint.kind == "tiny picture"] == ["5"]
