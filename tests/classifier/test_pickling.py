"""Classifiers are pickled, copied and sent to other processes, also after their encoder was used."""

import copy
import io
import multiprocessing
import pickle
import shutil

import joblib
import numpy as np
import pytest

from tiny_onnx import some_photos, write_encoder
from tip_adapter import ImageClassifier, load_encoder
from tip_adapter.errors import EncoderError

PHOTOS, LABELS = some_photos(9), ["red", "green", "blue"] * 3


def through_joblib(classifier):
    buffer = io.BytesIO()
    joblib.dump(classifier, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


def through_pickle(classifier):
    return pickle.loads(pickle.dumps(classifier))


WAYS = [through_pickle, through_joblib, copy.deepcopy]


@pytest.fixture
def folder(tmp_path):
    return write_encoder(tmp_path / "encoder")


def encoders(folder, tiny_clip):
    return {
        "name": "fake",
        "object": load_encoder("fake"),
        "folder": folder,
        "object of a folder": load_encoder(folder),
        "torch": f"huggingface:{tiny_clip}",
        "object of torch": load_encoder(f"huggingface:{tiny_clip}"),
    }


@pytest.mark.parametrize("kind", ["name", "object", "folder", "object of a folder", "torch", "object of torch"])
def test_a_copy_of_a_used_classifier_predicts_the_same(folder, tiny_clip, tmp_path, kind):
    fitted = ImageClassifier(encoders(folder, tiny_clip)[kind], "tip-adapter", store=None).fit(PHOTOS, LABELS)
    fitted.save(tmp_path / "c.tip")
    loaded = ImageClassifier.load(tmp_path / "c.tip", encoder=encoders(folder, tiny_clip)[kind], store=None)
    expected = fitted.predict_proba(PHOTOS)
    fitted.explain(PHOTOS)
    for classifier in (fitted, loaded):
        classifier.predict(PHOTOS)
        for way in WAYS:
            again = way(classifier)
            np.testing.assert_array_equal(again.predict_proba(PHOTOS), expected)
            assert [one.deciding[0].thumbnail for one in again.explain(PHOTOS)] == [
                one.deciding[0].thumbnail for one in fitted.explain(PHOTOS)
            ]
            again.add_class("grey")
        np.testing.assert_array_equal(classifier.predict_proba(PHOTOS), expected)
        assert classifier.class_names == ("blue", "green", "red")


def test_a_copy_whose_encoder_is_gone_says_so_when_it_is_needed(folder):
    for encoder in (folder, load_encoder(folder)):
        data = pickle.dumps(ImageClassifier(encoder, "tip-adapter", store=None).fit(PHOTOS, LABELS))
        moved = folder.with_name("moved")
        folder.rename(moved)
        again = pickle.loads(data)
        assert again.class_names == ("blue", "green", "red")
        with pytest.raises(EncoderError) as refused:
            again.predict(PHOTOS)
        assert str(folder) in str(refused.value)
        assert "\n" not in str(refused.value)
        moved.rename(folder)
        assert again.predict(PHOTOS) == pickle.loads(data).predict(PHOTOS)


def test_a_copy_whose_encoder_is_another_one_now_refuses_it(folder, tmp_path):
    data = pickle.dumps(load_encoder(folder))
    other = write_encoder(tmp_path / "other", seed=1)
    shutil.rmtree(folder)
    other.rename(folder)
    again = pickle.loads(data)
    for use in (lambda: again.encode_texts(["red"]), lambda: again.encode_images(PHOTOS)):
        with pytest.raises(EncoderError, match="another one than this copy was made of"):
            use()


def test_results_are_pickled_with_what_they_left_out(tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    found = ImageClassifier("fake", store=None).fit(PHOTOS, LABELS).predict([*PHOTOS, bad], skip_bad=True)
    again = pickle.loads(pickle.dumps(found))
    assert (again, again.skipped) == (found, found.skipped)


def test_other_processes_predict_with_a_used_classifier(folder):
    classifier = ImageClassifier(load_encoder(folder), "tip-adapter", store=None).fit(PHOTOS, LABELS)
    expected = [classifier.predict(photo) for photo in PHOTOS[:3]]
    jobs = (joblib.delayed(classifier.predict)(photo) for photo in PHOTOS[:3])
    assert joblib.Parallel(2)(jobs) == expected
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(classifier.predict, PHOTOS[:3]) == expected
