"""An encoder in a folder is found again, wherever the classifier is used from and wherever both have gone."""

import pytest

from tiny_onnx import some_photos, write_encoder
from tip_adapter import ImageClassifier
from tip_adapter.encoders import anchored
from tip_adapter.errors import EncoderError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with an encoder and a classifier made with it, which was named relative to the folder."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    write_encoder(home / "enc")
    elsewhere.mkdir()
    monkeypatch.chdir(home)
    photos, labels = some_photos(12), ["red", "green", "blue"] * 4
    ImageClassifier("enc", "tip-adapter", store=None).fit(photos, labels).save("colours.tip")
    monkeypatch.chdir(elsewhere)
    return home


def answer(path):
    return ImageClassifier.load(path, store=None).predict(some_photos(12)[:1])[0]


def test_from_another_folder(home):
    assert answer(home / "colours.tip") in {"red", "green", "blue"}


def test_after_the_classifier_alone_has_moved(home):
    (home / "colours.tip").rename("moved.tip")
    assert answer("moved.tip") in {"red", "green", "blue"}


def test_after_both_have_moved(home, tmp_path):
    home.rename(tmp_path / "new home")
    assert answer(tmp_path / "new home" / "colours.tip") in {"red", "green", "blue"}


def test_without_the_encoder_the_way_out_is_said(home):
    (home / "enc").rename("enc gone")
    with pytest.raises(EncoderError, match=f"There is no encoder folder {home}/enc: give the folder"):
        answer(home / "colours.tip")
    assert ImageClassifier.load(home / "colours.tip", encoder="enc gone", store=None).predict(some_photos(12)[:1])


def test_names_that_are_no_folders_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lite").mkdir()
    (tmp_path / "model").mkdir()
    assert [anchored(name) for name in ("lite", "hub:a/b", "huggingface:a/b")] == ["lite", "hub:a/b", "huggingface:a/b"]
    assert anchored("huggingface:model") == f"huggingface:{tmp_path}/model"
