import dataclasses
import hashlib
import json
import os
import re
import stat
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from tiny_onnx import some_photos, write_encoder
from tip_adapter.classifier import ImageClassifier
from tip_adapter.errors import EncoderError, InputError, MissingExtraError, TipAdapterError
from tip_adapter.export import export_classifier, models
from tip_adapter.export.web import ORT_WEB_FILES, PAGE_FILES


def session_of(path):
    return onnxruntime.InferenceSession(path)


def test_both_files_agree_with_the_classifier(fitted, tmp_path):
    report = export_classifier(fitted, tmp_path / "out")
    found = [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(found) == list(report.files)
    assert {"classifier.json", "classifier.onnx", "head.onnx", "predict.py", "pixels/samples.py"} <= set(found)
    photos = some_photos(7, seed=1)
    pixels = np.stack([fitted.encoder.preprocessing.center_view(Image.fromarray(photo)) for photo in photos])
    logits, probabilities = session_of(tmp_path / "out" / "classifier.onnx").run(None, {"pixels": pixels})
    np.testing.assert_allclose(probabilities, fitted.predict_proba(photos), atol=1e-5)
    features = fitted.encoder.encode_pixels(pixels)
    head_logits, _ = session_of(tmp_path / "out" / "head.onnx").run(None, {"features": features})
    np.testing.assert_allclose(head_logits, logits, atol=1e-3)
    assert report.classifier.max_logit_difference <= 1e-3
    assert report.classifier.same_top_class == report.classifier.samples == 12  # thumbnails of the shots


def test_metadata_say_what_a_reader_needs(fitted, tmp_path):
    report = export_classifier(fitted, tmp_path / "out")
    about = json.loads((tmp_path / "out" / "classifier.json").read_text(encoding="utf-8"))
    model = fitted.model_
    assert about["classes"] == ["blue", "green", "red"]
    assert about["encoder"]["image_id"] == model.encoder.image_id
    # The page is for everybody, and not everybody has to know where the encoder was.
    assert about["encoder"]["name"] == Path(model.encoder.name).name != model.encoder.name
    assert about["preprocessing"] == {"pixels": fitted.encoder.preprocessing.to_dict()}
    assert (about["method"]["alpha"], about["method"]["beta"]) == (model.head.alpha, model.head.beta)
    assert about["parity"]["max_logit_difference"] == report.classifier.max_logit_difference
    files = about.pop("files")
    assert set(files) == set(report.files) - {"classifier.json"}
    assert files["head.onnx"] == hashlib.sha256((tmp_path / "out" / "head.onnx").read_bytes()).hexdigest()
    found = session_of(tmp_path / "out" / "classifier.onnx").get_modelmeta().custom_metadata_map
    assert {
        name: value if isinstance(about[name], str) else json.loads(value) for name, value in found.items()
    } == about
    head = session_of(tmp_path / "out" / "head.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(head["parity"])["max_logit_difference"] == report.head.max_logit_difference


def test_the_batch_is_dynamic(fitted, tmp_path):
    export_classifier(fitted, tmp_path / "out")
    session = session_of(tmp_path / "out" / "classifier.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    together, _ = session.run(None, {"pixels": pixels})
    alone = np.concatenate([session.run(["logits"], {"pixels": pixels[index : index + 1]})[0] for index in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_encoders_of_other_opsets(tmp_path, opset):
    encoder = write_encoder(tmp_path / "encoder", opset=opset)
    classifier = ImageClassifier(encoder, "zero-shot", store=None).fit(some_photos(6), ["a", "b", "c"] * 2)
    assert export_classifier(classifier, tmp_path / "out").classifier.max_logit_difference <= 1e-3


def test_given_photos_are_compared_on(fitted, tmp_path):
    report = export_classifier(fitted, tmp_path / "out", samples=some_photos(5, seed=9))
    assert (report.classifier.samples, report.classifier.source) == (5, "the given sample photos")


def test_the_calibration_reaches_the_probabilities_only(encoder_folder, fitted, tmp_path):
    calibrated = ImageClassifier(encoder_folder, store=None)
    calibration = dataclasses.replace(fitted.model_.calibration, temperature=4.0)
    calibrated._live.put(dataclasses.replace(fitted.model_, calibration=calibration))
    export_classifier(calibrated, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "classifier.json").read_text(encoding="utf-8"))["temperature"] == 4.0
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    logits, probabilities = session_of(tmp_path / "out" / "classifier.onnx").run(None, {"pixels": pixels})
    powers = np.exp(logits / 4 - (logits / 4).max(axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)


def test_a_difference_writes_nothing(fitted, tmp_path, monkeypatch):
    def wrong(builder, preprocessing, *names, half):
        return honest(
            builder, type(preprocessing)(**{**vars(preprocessing), "mean": (0.5, 0.5, 0.5)}), *names, half=half
        )

    honest = models._append_normalization
    monkeypatch.setattr(models, "_append_normalization", wrong)
    with pytest.raises(TipAdapterError, match=r"Expected classifier.onnx to give the logits .* nothing was written"):
        export_classifier(fitted, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_is_a_difference(fitted, tmp_path, monkeypatch):
    honest = models.head_graph

    def broken(builder, head, features):
        return builder.add("Log", builder.add("Neg", builder.add("Exp", honest(builder, head, features))))

    monkeypatch.setattr(models, "head_graph", broken)
    with pytest.raises(TipAdapterError, match=r"Expected head.onnx to give the logits"):
        export_classifier(fitted, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_the_runtime_lacks(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "head_graph", lambda builder, head, features: builder.add("NoSuchOperator", features))
    with pytest.raises(TipAdapterError, match=r"Expected head.onnx to run in ONNX Runtime, got .*NoSuchOperator"):
        export_classifier(fitted, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_operators_too_old_to_convert(fitted, tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no adapter for\nUpsample")

    old = write_encoder(tmp_path / "encoder", opset=11)
    classifier = ImageClassifier(old, "zero-shot", store=None).fit(some_photos(6), ["a", "b", "c"] * 2)
    monkeypatch.setattr("onnx.version_converter.convert_version", refuse)
    with pytest.raises(EncoderError, match=r"vision_model.onnx .* version 13 or newer, got: no adapter for Upsample"):
        export_classifier(classifier, tmp_path / "out")


def test_an_encoder_without_a_graph_exports_its_head_only(tmp_path):
    fake = ImageClassifier("fake", store=None).fit(some_photos(12), ["a", "b", "c"] * 4)
    with pytest.raises(EncoderError, match="encoder with an image tower, got fake"):
        export_classifier(fake, tmp_path / "out")
    report = export_classifier(fake, tmp_path / "out", head_only=True)
    assert report.files == ("classifier.json", "head.onnx")
    assert report.classifier is None


def test_a_head_needs_no_encoder(fitted, tmp_path):
    fitted.save(tmp_path / "c.tip")
    report = export_classifier(ImageClassifier.load(tmp_path / "c.tip", encoder="gone"), tmp_path / "o", head_only=True)
    assert report.head.same_top_class == report.head.samples


def test_too_large_for_one_file(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_MAX_BYTES", 1000)
    with pytest.raises(InputError, match="one ONNX file of 2 GiB"):
        export_classifier(fitted, tmp_path / "out")


def test_only_an_earlier_export_is_replaced(fitted, tmp_path):
    export_classifier(fitted, tmp_path / "out", head_only=True)
    export_classifier(fitted, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="to be new, empty or an earlier export"):
        export_classifier(fitted, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="to be new, empty or an earlier export"):
        export_classifier(fitted, tmp_path / "file")


def test_an_earlier_export_is_updated_and_the_files_of_others_stay(fitted, tmp_path, ort_web):
    out = tmp_path / "out"
    export_classifier(fitted, out, ort_web=ort_web)
    (out / ".git").mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "head.onnx").chmod(0o640)
    out.chmod(0o700)
    inode = out.stat().st_ino
    report = export_classifier(fitted, out, head_only=True)
    names = {path.name for path in out.iterdir() if path.is_file()}
    assert names == {*report.files, "notes.txt", ".lock"}
    assert (out / ".git").is_dir()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (out, out / "head.onnx")] == [0o700, 0o640]
    assert out.stat().st_ino == inode


def test_an_export_deletes_nothing_that_only_its_description_names(fitted, tmp_path):
    out = tmp_path / "out"
    export_classifier(fitted, out, head_only=True)
    about = json.loads((out / "classifier.json").read_text(encoding="utf-8"))
    (out / "notes.txt").write_text("mine")
    (tmp_path / "outside.txt").write_text("mine")
    about["files"] |= {"notes.txt": "", "../outside.txt": ""}
    (out / "classifier.json").write_text(json.dumps(about), encoding="utf-8")
    export_classifier(fitted, out, head_only=True)
    assert (out / "notes.txt").exists()
    assert (tmp_path / "outside.txt").exists()


def test_every_file_is_replaced_in_one_step_and_the_description_last(fitted, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export_classifier(fitted, out)
    before, real, replaced = session_of(out / "classifier.onnx").get_modelmeta().custom_metadata_map, os.replace, []

    def replace(source, target):
        replaced.append(target.name)
        assert session_of(out / "classifier.onnx").get_modelmeta().custom_metadata_map == before
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    export_classifier(fitted, out)
    assert replaced[-1] == "classifier.json"
    assert {"classifier.onnx", "head.onnx", "predict.py"} < set(replaced)


def test_an_unfitted_classifier(tmp_path):
    with pytest.raises(InputError, match="Expected a fitted classifier"):
        export_classifier(ImageClassifier("fake"), tmp_path / "out")


def test_without_the_package_onnx(fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install '.[export]'")):
        export_classifier(fitted, tmp_path / "out")


@pytest.fixture
def ort_web(tmp_path):
    dist = tmp_path / "node_modules" / "onnxruntime-web" / "dist"
    dist.mkdir(parents=True)
    for name in ORT_WEB_FILES:
        (dist / name).write_bytes(b"stands in for " + name.encode())
    return dist.parent


def test_a_page_has_all_it_needs_beside_it(fitted, tmp_path, ort_web):
    report = export_classifier(fitted, tmp_path / "out", ort_web=ort_web)
    assert {*PAGE_FILES, *(f"ort/{name}" for name in ORT_WEB_FILES)} < set(report.files)
    out = tmp_path / "out"
    for name in PAGE_FILES:
        text = (out / name).read_text(encoding="utf-8")
        assert not re.findall(r"https?://(?!localhost)", text), name
        linked = re.findall(r'(?:src|href|from)\s*=?\s*"([\w./-]+\.(?:js|css|mjs))"', text)
        assert all((out / link).is_file() for link in linked), linked
    assert "default-src 'none'" in (out / "index.html").read_text(encoding="utf-8")


def test_a_page_without_its_runtime(fitted, tmp_path, ort_web):
    (ort_web / "dist" / ORT_WEB_FILES[2]).unlink()
    with pytest.raises(InputError, match=r"found no ort-wasm-simd-threaded.wasm: run `npm install onnxruntime-web`"):
        export_classifier(fitted, tmp_path / "out", ort_web=ort_web)
    with pytest.raises(InputError, match="a page needs the encoder"):
        export_classifier(fitted, tmp_path / "out", ort_web=ort_web, head_only=True)
