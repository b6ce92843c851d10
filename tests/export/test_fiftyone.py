"""FiftyOne's interface, of which a stub stands in for the package, which brings a database."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tiny_onnx import some_photos
from tip_adapter.errors import MissingExtraError
from tip_adapter.export.fiftyone import fiftyone_model


class Abstract:
    """As FiftyOne's classes: what is not overridden raises."""

    media_type = ragged_batches = transforms = property(lambda self: 1 / 0)
    has_logits = has_embeddings = can_embed_prompts = property(lambda self: 1 / 0)


@pytest.fixture
def model(monkeypatch, fitted):
    models, labels = ModuleType("fiftyone.core.models"), ModuleType("fiftyone.core.labels")
    for name in ("Model", "LogitsMixin", "EmbeddingsMixin", "PromptMixin"):
        setattr(models, name, type(name, (Abstract,), {}))
    labels.Classification = SimpleNamespace
    for name in ("fiftyone", "fiftyone.core"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for module in (models, labels):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    found = fiftyone_model(fitted)
    assert isinstance(found, models.Model)
    return found


def test_predictions_are_those_of_the_classifier(model, fitted):
    photos = some_photos(6)
    found = model.predict_all(photos)
    assert [label.label for label in found] == fitted.predict(photos)
    np.testing.assert_allclose([label.confidence for label in found], fitted.predict_proba(photos).max(axis=1))
    assert found[0].logits is None
    model.store_logits = True
    one = model.predict(photos[3])
    assert one.label == found[3].label
    np.testing.assert_array_equal(one.logits.argmax(), fitted.class_names.index(one.label))


def test_embeddings_are_unit_features(model):
    with pytest.raises(ValueError, match="No photo"):
        model.get_embeddings()
    photos = np.stack(some_photos(3))
    features = model.embed_all(photos)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(model.get_embeddings(), features)
    np.testing.assert_allclose(model.embed(photos[1]), features[1], atol=1e-6)
    assert model.can_embed_prompts
    texts = model.embed_prompts(["a red photo", "a photo"])
    assert texts.shape == (2, features.shape[1])
    np.testing.assert_array_equal(model.embed_prompt("a photo"), model.embed_prompts(["a photo"])[0])


def test_without_fiftyone_it_is_said(monkeypatch, fitted):
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(MissingExtraError, match="fiftyone"):
        fiftyone_model(fitted)
