"""A saved classifier names its encoder, and by that makes nothing be fetched."""

from dataclasses import replace

import pytest

from tiny_onnx import some_photos
from tip_adapter import ImageClassifier
from tip_adapter.errors import EncoderError, InputError
from tip_adapter.model.fitting import MethodRecord

PHOTOS, LABELS = some_photos(6), ["red", "green", "blue"] * 2


@pytest.fixture
def asked(monkeypatch):
    """What the Hub is asked for; it has nothing."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    repositories = []

    def snapshot(repository, *, allow_patterns, local_files_only=False):
        if local_files_only:
            raise LocalEntryNotFoundError("nothing here")
        repositories.append(repository)
        raise OSError("no network")

    def listing(_, repository, **__):
        repositories.append(repository)
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", listing)
    return repositories


def saved(tmp_path, name):
    """A classifier that says that its encoder is called so."""
    classifier = ImageClassifier("fake", "tip-adapter", store=None).fit(PHOTOS, LABELS)
    classifier._live.put(replace(classifier.model_, encoder=replace(classifier.model_.encoder, name=name)))
    classifier.save(tmp_path / "c.tip")
    return tmp_path / "c.tip"


@pytest.mark.parametrize(
    "name",
    [
        "hub:somebody/something",
        "fake+hub:somebody/something",
        "huggingface:somebody/something",
        "open-clip:ViT-B-16/openai",
    ],
)
def test_what_a_file_names_is_not_fetched(tmp_path, asked, name):
    pytest.importorskip("torch", reason="the extra torch is not installed")
    path = saved(tmp_path, name)
    classifier = ImageClassifier.load(path, store=None)
    with pytest.raises(EncoderError, match=r"is not on this machine.*--encoder, in Python encoder="):
        classifier.predict(PHOTOS)
    assert asked == []
    if name.startswith("hub"):
        with pytest.raises(EncoderError, match="cannot be downloaded"):
            ImageClassifier.load(path, encoder=name, store=None).predict(PHOTOS)
        assert asked == ["somebody/something"]


def test_the_built_in_names_are(tmp_path, asked):
    with pytest.raises(EncoderError, match="cannot be downloaded"):
        ImageClassifier.load(saved(tmp_path, "clip-vit-b-32"), store=None).predict(PHOTOS)
    assert asked == ["Xenova/clip-vit-base-patch32"]


def test_training_through_the_encoder_fetches_nothing_either(tmp_path, asked):
    pytest.importorskip("torch", reason="the extra torch is not installed")
    classifier = ImageClassifier.load(saved(tmp_path, "huggingface:somebody/something"), store=None)
    classifier.method = "coop"
    classifier._live.put(replace(classifier.model_, method=MethodRecord("coop", trains=True)))
    with pytest.raises(EncoderError, match="is not on this machine"):
        classifier.refit()
    assert asked == []


@pytest.mark.parametrize("name", ["//host/share", "fake+//host/share", "\\\\host\\share", "", "a\0b"])
def test_names_that_are_none_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="the name of an encoder"):
        saved(tmp_path, name)
