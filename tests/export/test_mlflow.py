"""MLflow saves, loads and serves a classifier, from bytes, base64 and paths below one folder."""

import base64
import json

import numpy as np
import pytest

pytest.importorskip("mlflow.pyfunc", reason="the extra mlflow is not installed")

import mlflow
import pandas as pd
from fastapi.testclient import TestClient
from mlflow import pyfunc
from mlflow.pyfunc.scoring_server import init

from conftest import write_photos
from tip_adapter import ImageClassifier
from tip_adapter.export import mlflow as flavour

pytestmark = pytest.mark.filterwarnings("ignore:Operation with range is deprecated")  # MLflow on pandas 3


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    here = tmp_path_factory.mktemp("mlflow")
    write_photos(here / "photos", 3, seed=0)
    write_photos(here / "private", 1, seed=1)
    classifier = ImageClassifier("fake", "tip-adapter", store=None).fit(here / "photos")
    flavour.save_model(classifier, here / "bytes")
    flavour.save_model(classifier, here / "paths", photos=here / "photos")
    return here


@pytest.fixture(scope="module")
def model(here):
    return pyfunc.load_model(str(here / "bytes"))


@pytest.fixture(scope="module")
def photos(here):
    return [path.read_bytes() for path in sorted((here / "photos").rglob("*.png"))]


def test_predictions_are_those_of_the_classifier(here, model, photos):
    frame = pd.DataFrame({"image": photos}, index=range(10, 19))
    found = model.predict(frame)
    assert model.predict(frame[:0]).empty
    classifier = flavour.load_model(str(here / "bytes"))
    assert found["prediction"].tolist() == classifier.predict(photos)
    np.testing.assert_array_equal(found["probability"], classifier.predict_proba(photos).max(axis=1))
    assert set(found["error"]) == {""}
    assert found.index.tolist() == frame.index.tolist()


def test_nothing_is_pickled(here):
    names = {path.name for path in (here / "bytes").rglob("*")}
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib"))]
    assert {"MLmodel", "input_example.json", "classifier.tip", "config.json"} <= names


def test_invocations_answer_base64_and_say_what_cannot_be_read(model, photos):
    client = TestClient(init(model))
    rows = [[base64.b64encode(data).decode()] for data in (photos[0], photos[0][:50], photos[-1])]
    answer = client.post("/invocations", json={"dataframe_split": {"columns": ["image"], "data": rows}})
    assert answer.status_code == 200
    first, bad, last = answer.json()["predictions"]
    assert (first["prediction"], last["prediction"]) == ("green", "sky blue")
    assert first["error"] == ""
    assert (bad["prediction"], bad["probability"]) == ("", 0)
    assert "row 1" in bad["error"]


def test_the_example_is_answered(here, model):
    example = json.loads((here / "bytes" / "serving_input_example.json").read_text())
    assert len(TestClient(init(model)).post("/invocations", json=example).json()["predictions"]) == 1


@pytest.mark.parametrize(
    "body", [{}, [], {"inputs": [[7]]}, {"dataframe_split": {"columns": ["photo"], "data": [["x"]]}}]
)
def test_requests_that_do_not_fit_are_refused(model, body):
    assert TestClient(init(model)).post("/invocations", json=body).status_code == 400


def test_paths_lead_nowhere_else(here):
    model = pyfunc.load_model(str(here / "paths"))
    inside = sorted((here / "photos").rglob("*.png"))[0]
    outside = sorted((here / "private").rglob("*.png"))[0]
    names = [inside.relative_to(here / "photos"), inside, outside, "../private/red/photo 0é.png", "a.jpg", "http://x"]
    found = model.predict(pd.DataFrame({"path": list(map(str, names))}))
    assert found["prediction"].tolist() == ["green", "green", "", "", "", ""]
    words = ["below", "below", "a.jpg", "the path of a photo"]
    assert all(word in error for word, error in zip(words, found["error"][2:], strict=True))
    mixed = pd.DataFrame({"image": [inside.read_bytes(), None], "path": [None, None]})
    assert model.predict(mixed)["prediction"].tolist() == ["green", ""]


def test_a_folder_is_named_when_the_model_is_loaded(here):
    model = pyfunc.load_model(str(here / "paths"), model_config={"photos": str(here / "private")})
    assert model.predict(pd.DataFrame({"path": ["red/photo 0é.png"]}))["prediction"].tolist() == ["red"]


def test_the_encoder_goes_along(tmp_path, fitted, encoder_folder, photos):
    flavour.save_model(fitted, tmp_path / "whole", encoder=encoder_folder)
    loaded = flavour.load_model(str(tmp_path / "whole"))
    assert loaded.predict(photos) == fitted.predict(photos)
    assert (tmp_path / "whole" / "data" / "tip-adapter" / "encoder").is_dir()


def test_a_classifier_is_logged_by_a_run(tmp_path, monkeypatch, fitted):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # other stores need more than mlflow-skinny
    mlflow.set_tracking_uri(f"file:{tmp_path}/runs")
    with mlflow.start_run():
        info = flavour.log_model(fitted, "colours")
    assert flavour.load_model(info.model_uri).model_.shots.ids == fitted.model_.shots.ids
