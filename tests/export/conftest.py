"""An encoder directory without torch, and a classifier fitted with it."""

import pytest

pytest.importorskip("onnx", reason="the extra export is not installed")

from tiny_onnx import some_photos, write_encoder
from tip_adapter.classifier import ImageClassifier


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


@pytest.fixture(scope="session")
def fitted(encoder_folder):
    labels = [("red", "green", "blue")[index % 3] for index in range(12)]
    return ImageClassifier(encoder_folder, "tip-adapter", store=None).fit(some_photos(12), labels)
