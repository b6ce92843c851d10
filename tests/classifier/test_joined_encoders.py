"""Classifiers on joined encoders: fitted, saved, loaded, edited, and told which member is another one."""

import shutil

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra export is not installed")

from tiny_models import write_clip
from tiny_onnx import some_photos, write_encoder
from tip_adapter import ImageClassifier
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import EncoderError

LABELS = [("red", "green", "blue")[index % 3] for index in range(12)]


@pytest.fixture
def folders(tmp_path):
    return [write_encoder(tmp_path / f"tiny{seed}", seed=seed) for seed in (0, 1)]


@pytest.fixture
def fitted(folders):
    return ImageClassifier(f"{folders[0]}+{folders[1]}+fake", "gda", store=None).fit(some_photos(12), LABELS)


def test_it_is_saved_loaded_edited_and_explained(fitted, tmp_path):
    queries = some_photos(6, seed=5)
    assert fitted.predict(queries) == ["red", "green", "blue"] * 2
    fitted.save(tmp_path / "joined.tip")
    loaded = ImageClassifier.load(tmp_path / "joined.tip", store=None)
    np.testing.assert_allclose(loaded.predict_proba(queries), fitted.predict_proba(queries), atol=1e-6)
    loaded.add_shots(some_photos(3, seed=9), LABELS[:3])
    again = ImageClassifier(fitted.model_.encoder.name, "gda", store=None)
    again.method_parameters = dict(loaded.model_.method.held)
    again.fit([*some_photos(12), *some_photos(3, seed=9)], [*LABELS, *LABELS[:3]])
    # The temperature of the one is that of 12 shots, of the other that of 15.
    np.testing.assert_allclose(loaded.predict_proba(queries), again.predict_proba(queries), atol=1e-3)
    assert loaded.explain(queries[0]).answer == "red"


def test_the_member_that_changed_is_named(fitted, folders, tmp_path):
    fitted.save(tmp_path / "joined.tip")
    write_encoder(tmp_path / "other", seed=7)
    shutil.rmtree(folders[1])
    shutil.move(tmp_path / "other", folders[1])
    with pytest.raises(EncoderError, match=rf"in which {folders[1]} is another one \(id \w+, was \w+\): give that"):
        ImageClassifier.load(tmp_path / "joined.tip", store=None).predict(some_photos(1))


def test_the_member_that_is_missing_is_named(fitted, folders, tmp_path):
    fitted.save(tmp_path / "joined.tip")
    shutil.rmtree(folders[0])
    with pytest.raises(EncoderError, match=f"needs {folders[0]}, which cannot be used. There is no encoder folder"):
        ImageClassifier.load(tmp_path / "joined.tip", store=None).predict(some_photos(1))


def test_members_that_moved_together_with_the_classifier_are_found(fitted, folders, tmp_path):
    (tmp_path / "moved").mkdir()
    fitted.save(tmp_path / "joined.tip")
    for path in (*folders, tmp_path / "joined.tip"):
        shutil.move(path, tmp_path / "moved" / path.name)
    loaded = ImageClassifier.load(tmp_path / "moved" / "joined.tip", store=None)
    assert loaded.predict(some_photos(3, seed=5)) == ["red", "green", "blue"]


def test_another_text_tower_needs_no_photo_again(folders, tmp_path):
    """The store keys on the image towers alone."""
    store, name = tmp_path / "features.sqlite3", f"{folders[0]}+fake"
    counts = []
    ImageClassifier(name, "gda", store=store).fit(some_photos(12), LABELS)
    (folders[0] / "onnx" / "text_model.onnx").write_bytes((folders[1] / "onnx" / "text_model.onnx").read_bytes())
    ImageClassifier(name, "gda", store=store).fit(
        some_photos(12), LABELS, progress=lambda done, total, cached: counts.append(cached)
    )
    assert counts[-1] == 12 or 12 in counts


def seeing(folder):
    encoder = load_encoder(folder)
    encoder.has_text_tower = False
    return encoder


def test_without_any_text_tower_the_shots_decide(folders):
    classifier = ImageClassifier(seeing(folders[0]), "auto", store=None).fit(some_photos(12), LABELS)
    assert classifier.predict(some_photos(6, seed=5)) == ["red", "green", "blue"] * 2
    with pytest.raises(EncoderError, match=r"ZeroShot needs the classes' texts, and the encoder .*/tiny0 has no text"):
        ImageClassifier(seeing(folders[0]), "zero-shot", store=None).fit(some_photos(12), LABELS)


def test_eight_bits_of_one_member_are_guarded_saved_and_exported(folders, tmp_path):
    """A transformer in 8 bits beside a tower in full precision."""
    pytest.importorskip("torch", reason="the extra torch is not installed")
    from tip_adapter.encoders import export_encoder
    from tip_adapter.encoders.precision import eight_bit_products_are_exact
    from tip_adapter.export import export_classifier

    if not eight_bit_products_are_exact():
        pytest.skip("this processor has no VNNI")
    (tmp_path / "clip").mkdir()
    towers = export_encoder(f"huggingface:{write_clip(tmp_path / 'clip')}", tmp_path / "towers")
    classifier = ImageClassifier(f"{towers}+{folders[0]}", "gda", precision="int8+fp32", store=None)
    classifier.fit(some_photos(12), LABELS)
    report = classifier.precision_report_
    assert report.shots == 12
    assert 0.9 < report.lowest_cosine < 1
    classifier.save(tmp_path / "joined.tip")
    loaded = ImageClassifier.load(tmp_path / "joined.tip", store=None)
    assert loaded.encoder.precision == "int8+fp32"
    assert loaded.predict(some_photos(3, seed=5)) == classifier.predict(some_photos(3, seed=5))
    assert export_classifier(loaded, tmp_path / "out").classifier.same_top_class == 12
