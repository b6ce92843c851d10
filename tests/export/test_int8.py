"""An int8 encoder from the command line to the exported file."""

import json

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from typer.testing import CliRunner

from tiny_onnx import some_photos, write_encoder
from tip_adapter.classifier import ImageClassifier
from tip_adapter.cli.app import app
from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.precision import eight_bit_products_are_exact
from tip_adapter.errors import EncoderError, EncoderWarning
from tip_adapter.export import export_classifier

needs_vnni = pytest.mark.skipif(not eight_bit_products_are_exact(), reason="this processor lacks VNNI")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))
    return write_encoder(tmp_path / "encoder")


def run(*arguments):
    return json.loads(CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False).stdout)


@needs_vnni
def test_the_command_line_reports_and_the_saved_classifier_remembers(folder, photos, tmp_path):
    options = ["-e", folder, "--precision", "int8"]
    fitted = run("fit", photos / "train", *options, "--max-flipped", 1, "-o", tmp_path / "c.tip")
    assert fitted["encoder"]["precision"] == "int8"
    assert fitted["int8"]["shots"] == 15
    assert 0.9 < fitted["int8"]["lowest_cosine"] <= fitted["int8"]["mean_cosine"] < 1
    assert ImageClassifier.load(tmp_path / "c.tip").encoder.precision == "int8"
    embedded = run("embed", photos / "test", *options)
    same = {"image_id": fitted["encoder"]["image_id"], "precision": "int8"}
    assert embedded["encoder"] == {"name": str(folder), **same}


@needs_vnni
def test_fp32_is_not_mistaken_for_int8(folder, photos, tmp_path):
    run("fit", photos / "train", "-e", folder, "--precision", "int8", "--max-flipped", 1, "-o", tmp_path / "c.tip")
    other = load_encoder(folder)
    with pytest.raises(EncoderError, match="was fitted with the encoder"):
        ImageClassifier.load(tmp_path / "c.tip", encoder=other).predict(some_photos(1))


def test_without_vnni_the_classifier_is_one_of_fp32(folder, photos, monkeypatch):
    monkeypatch.setattr("tip_adapter.encoders.onnx.eight_bit_products_are_exact", lambda: False)
    with pytest.warns(EncoderWarning, match="runs in fp32"):
        classifier = ImageClassifier(folder, precision="int8", store=None).fit(photos / "train")
    assert classifier.model_.encoder.precision == "fp32"
    assert classifier.model_.encoder.image_id == load_encoder(folder).image_id
    assert classifier.precision_report_ is None


@needs_vnni
def test_an_exported_int8_classifier_agrees(folder, tmp_path):
    labels = [("red", "green", "blue")[index % 3] for index in range(12)]
    classifier = ImageClassifier(folder, precision="int8", max_flipped=1.0, store=None).fit(some_photos(12), labels)
    report = export_classifier(classifier, tmp_path / "out", samples=some_photos(9, seed=3))
    assert (report.classifier.same_top_class, report.classifier.samples) == (9, 9)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "classifier.onnx")
    about = json.loads((tmp_path / "out" / "classifier.json").read_text(encoding="utf-8"))
    assert about["input"].endswith("one a run, B = 1")
    assert about["encoder"]["precision"] == "int8"
    photos = some_photos(5, seed=4)
    views = [classifier.encoder.preprocessing.center_view(Image.fromarray(photo)) for photo in photos]
    found = [session.run(["probabilities"], {"pixels": view[None]})[0] for view in views]
    np.testing.assert_allclose(np.concatenate(found), classifier.predict_proba(photos), atol=1e-4)


@needs_vnni
def test_a_comparison_can_run_on_int8_and_its_results_say_so(folder, photos, tmp_path):
    options = ["-e", folder, "-m", "zero-shot,tip-adapter", "-k", 2, "--seeds", 1, "--jobs", 1, "-o", tmp_path / "runs"]
    run("bench", photos, *options, "--precision", "int8")
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "runs").rglob("*.json")]
    wanted = load_encoder(folder, precision="int8").image_id
    assert any(wanted in json.dumps(record) for record in records)
    assert not any(load_encoder(folder).image_id in json.dumps(record) for record in records)
