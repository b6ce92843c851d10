"""One graph of several towers, and the script beside it."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from tiny_onnx import some_photos, write_encoder
from tip_adapter.classifier import ImageClassifier
from tip_adapter.data.decoding import load_image
from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.export import export_classifier


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Two towers of older and newer operators; the third looks at views of another size."""
    folder = tmp_path_factory.mktemp("members")
    members = [
        load_encoder(write_encoder(folder / "old", opset=13)),
        load_encoder(write_encoder(folder / "new", seed=1)),
    ]
    other = write_encoder(folder / "cut", seed=2)
    path = other / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": {"shortest_edge": 12}}))
    return JoinedEncoder("three", [*members, load_encoder(other)])


@pytest.fixture(scope="module")
def exported(encoder, tmp_path_factory):
    labels = [("red", "green", "blue")[index % 3] for index in range(12)]
    classifier = ImageClassifier(encoder, "tip-adapter", store=None).fit(some_photos(12), labels)
    out = tmp_path_factory.mktemp("out") / "three"
    return classifier, export_classifier(classifier, out)


def test_one_graph_gives_the_probabilities_of_the_classifier(exported, encoder):
    classifier, report = exported
    photos = some_photos(9, seed=3)
    session = onnxruntime.InferenceSession(report.path / "classifier.onnx")
    assert [value.name for value in session.get_inputs()] == ["pixels_1", "pixels_2"]
    views = [encoder.preprocessing.center_view(load_image(photo)) for photo in photos]
    feeds = dict(zip(("pixels_1", "pixels_2"), encoder.preprocessing.split(np.stack(views)), strict=True))
    (probabilities,) = session.run(["probabilities"], feeds)
    np.testing.assert_allclose(probabilities, classifier.predict_proba(photos), atol=1e-5)
    assert report.classifier.same_top_class == report.classifier.samples


def test_the_script_classifies_with_all_views(exported, tmp_path):
    classifier, report = exported
    photos = some_photos(3, seed=4)
    for index, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / f"{index}.png")
    words = [sys.executable, "predict.py", *(str(tmp_path / f"{index}.png") for index in range(3))]
    done = subprocess.run(words, cwd=report.path, capture_output=True, text=True, check=True)
    named = [line.split(": ")[1].split()[0] for line in done.stdout.splitlines()]
    assert named == classifier.predict(photos)


def test_the_description_says_how_each_view_is_cut(exported):
    _, report = exported
    about = json.loads((report.path / "classifier.json").read_text())
    assert {name: (view["size"], view["resize"]) for name, view in about["preprocessing"].items()} == {
        "pixels_1": (8, 10),
        "pixels_2": (8, 12),
    }
    assert about["input"].startswith("pixels_1 (B, 8, 8, 3) and pixels_2 (B, 8, 8, 3) uint8 RGB")
