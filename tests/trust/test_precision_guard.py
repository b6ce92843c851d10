import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_features import unit
from tip_adapter.classifier import ImageClassifier
from tip_adapter.encoders.fake import FakeEncoder
from tip_adapter.errors import EncoderError
from tip_adapter.trust.precision import guard_precision, left_out_predictions


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), text=st.booleans())
def test_predictions_are_those_of_tip_adapter_without_the_shot_itself(seed, text):
    rng = np.random.default_rng(seed)
    n, n_classes = 9, 3
    features, labels = unit(rng.normal(size=(n, 6))), rng.permutation(np.arange(n) % n_classes)
    weights = unit(rng.normal(size=(n_classes, 6))) if text else None
    expected = []
    for i in range(n):
        logits = 5.0 * weights.astype(float) @ features[i] if text else np.zeros(n_classes)
        for j in range(n):
            if j != i:  # as many shots in every class: a key counts 1
                logits[labels[j]] += np.exp(-5.5 * (1 - features[i].astype(float) @ features[j]))
        expected.append(int(logits.argmax()))
    found = left_out_predictions(features, labels, weights, logit_scale=5.0, n_classes=n_classes)
    assert found.tolist() == expected


class Noisy(FakeEncoder):
    """Stands in for an int8 encoder: the features of `fake`, some of them turned away."""

    def __init__(self, noise):
        super().__init__()
        self.noise, self.precision = noise, "int8"

    def _encode_views(self, pixels):
        features = super()._encode_views(pixels)
        rng = np.random.default_rng(0)
        return (features + self.noise * rng.normal(size=features.shape) * features.std()).astype(np.float32)

    def in_full_precision(self):
        return FakeEncoder()


def photos_of(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return [(150 * np.eye(3)[label] + rng.integers(0, 90, (16, 16, 3))).astype(np.uint8) for label in labels], labels


def test_the_report_counts_what_changes():
    photos, labels = photos_of(30)
    same = guard_precision(Noisy(0.0), photos, labels, None, n_classes=3)
    assert (same.shots, same.flipped) == (30, 0)
    assert same.lowest_cosine == pytest.approx(1)
    wild = guard_precision(Noisy(8.0), photos, labels, None, n_classes=3, max_flipped=1.0)
    assert wild.flipped > 5
    assert wild.lowest_cosine < wild.mean_cosine < 0.5
    assert "int8 against fp32 on 30 shots: cosine" in str(wild)


def test_too_many_changed_predictions_are_refused():
    photos, labels = photos_of(30)
    changed = guard_precision(Noisy(8.0), photos, labels, None, n_classes=3, max_flipped=1.0).flipped
    guard_precision(Noisy(8.0), photos, labels, None, n_classes=3, max_flipped=changed / 30)
    with pytest.raises(
        EncoderError, match=rf"at most 5.0 % of the predictions, got .* {changed} predictions changed: use"
    ):
        guard_precision(Noisy(8.0), photos, labels, None, n_classes=3)


def test_of_many_shots_some_of_every_class_are_taken(monkeypatch):
    monkeypatch.setattr("tip_adapter.trust.precision._MAX_SHOTS", 12)
    photos, labels = photos_of(60)
    order = np.argsort(labels, kind="stable")
    seen = []
    monkeypatch.setattr(
        "tip_adapter.trust.precision.left_out_predictions",
        lambda rows, numbers, *_, **__: seen.append(numbers) or np.zeros(len(rows), dtype=np.intp),
    )
    report = guard_precision(Noisy(0.0), [photos[i] for i in order], labels[order], None, n_classes=3)
    assert report.shots == 12
    assert np.bincount(seen[0]).tolist() == [4, 4, 4]


def test_fit_refuses_and_keeps_no_model():
    photos, labels = photos_of(18)
    names = [("red", "green", "blue")[label] for label in labels]
    classifier = ImageClassifier(Noisy(20.0), store=None, max_flipped=0.01)
    with pytest.raises(EncoderError, match="use precision fp32, or allow more"):
        classifier.fit(photos, names)
    assert not hasattr(classifier, "model_")
    assert ImageClassifier("fake", store=None).fit(photos, names).precision_report_ is None
