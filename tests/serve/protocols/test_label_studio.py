"""Requests as Label Studio sends them: tasks, annotations, and what is withdrawn."""

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest

from serve_files import photo
from tip_adapter import ImageClassifier
from tip_adapter.data.decoding import NamedBytes
from tip_adapter.serve.protocols.label_studio_edits import RECORD, annotate, strike, withdraw

CONFIG = """<View><Image name="photo" value="$image"/>
<Choices name="shade" toName="photo"><Choice value="night"/><Choice value="day"/></Choices></View>"""


@pytest.fixture
def studio():
    """A Label Studio that gives photos to whoever has the token."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            known = self.headers["Authorization"] == "Token s3cret"
            self.send_response(302 if "away" in self.path else 200 if known else 401)
            self.send_header("Location", "/data/128.png")
            self.end_headers()
            if known and "away" not in self.path:
                self.wfile.write(photo(int(self.path.rpartition("/")[2].partition(".")[0])))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.url = asked, f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    images = [np.full((32, 32, 3), shade, dtype=np.uint8) for shade in (30, 33, 36, 220, 223, 226)]
    ImageClassifier("fake", store=None).fit(images, ["night"] * 3 + ["day"] * 3).save(tmp_path / "light.tip")
    return tmp_path / "light.tip"


@pytest.fixture
def client(begin, studio):
    address = begin(label_studio_url=studio.url, label_studio_token="s3cret")
    with httpx.Client(base_url=f"http://{address}/label-studio") as client:
        yield client


def shots(folder):
    model = ImageClassifier.load(folder, store=None).model_
    return dict(zip(model.shots.ids, (model.class_names[label] for label in model.shots.labels), strict=True)), model


def task(shade=128):
    return {"id": 7, "data": {"image": f"/data/{shade}.png"}}


def event(action, number=1, choice="day", shade=128):
    result = [{"from_name": "shade", "to_name": "photo", "type": "choices", "value": {"choices": [choice]}}]
    annotation = {"id": number, "result": result if choice else []}
    return {"action": action, "annotation": annotation, "task": task(shade), "project": {"label_config": CONFIG}}


def withdrawn(number=1):
    return {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": number}], "project": {"id": 1}}


def test_tasks_are_answered_with_scores(client, studio):
    assert client.get("/health").json()["status"] == "UP"
    given = {"project": "1.2", "schema": CONFIG, "hostname": "http://evil.example", "access_token": "x"}
    assert client.post("/setup", json=given).json()["model_version"].startswith("light")
    tasks = [task(25), {"id": 8, "data": {"image": f"{studio.url}/data/225.png"}}]
    found = client.post("/predict", json={"tasks": tasks, "label_config": CONFIG, "project": "1.2"}).json()["results"]
    assert [one["result"][0]["value"]["choices"] for one in found] == [["night"], ["day"]]
    assert found[0]["result"][0]["from_name"] == "shade"
    assert 0.5 <= found[0]["score"] <= 1


def test_an_annotation_is_an_edit_and_its_withdrawal_takes_it_back(client, folder):
    before, model = shots(folder)
    assert client.post("/webhook", json=event("ANNOTATION_CREATED")).status_code == 200
    (new,) = shots(folder)[0].keys() - before.keys()
    assert shots(folder)[0][new] == "day"
    client.post("/webhook", json=event("ANNOTATION_UPDATED", choice="night"))
    assert shots(folder)[0][new] == "night"
    client.post("/webhook", json=event("ANNOTATION_CREATED", number=2, shade=140))
    client.post("/webhook", json=withdrawn(1))
    assert new not in shots(folder)[0]
    assert len(shots(folder)[0]) == len(before) + 1
    client.post("/webhook", json=withdrawn(2))
    client.post("/webhook", json=withdrawn(2))
    after, restored = shots(folder)
    assert after == before
    features = model.shots.features.unit
    np.testing.assert_array_equal(restored.logits(features), model.logits(features))


def test_a_photo_that_was_a_shot_gets_its_class_back(client, folder):
    client.post("/webhook", json=event("ANNOTATION_CREATED", number=1, choice="day"))
    before, model = shots(folder)
    client.post("/webhook", json=event("ANNOTATION_CREATED", number=2, choice="night"))
    assert shots(folder)[0] != before
    client.post("/webhook", json=withdrawn(2))
    after, restored = shots(folder)
    assert after == before
    np.testing.assert_array_equal(
        restored.head.logits(model.shots.features.unit), model.head.logits(model.shots.features.unit)
    )


@pytest.mark.parametrize("second", ["day", "night"])
def test_of_two_annotators_of_a_photo_the_one_who_stays_counts(client, folder, second):
    before, model = shots(folder)
    for first_to_go, left in ((1, second), (2, "day")):
        client.post("/webhook", json=event("ANNOTATION_CREATED", number=1, choice="day"))
        client.post("/webhook", json=event("ANNOTATION_CREATED", number=2, choice=second))
        (new,) = shots(folder)[0].keys() - before.keys()
        assert shots(folder)[0][new] == second
        client.post("/webhook", json=withdrawn(first_to_go))
        assert shots(folder)[0][new] == left
        client.post("/webhook", json=withdrawn(3 - first_to_go))
        after, restored = shots(folder)
        assert after == before
        features = model.shots.features.unit
        np.testing.assert_array_equal(restored.logits(features), model.logits(features))
    assert json.loads((folder / RECORD).read_text()) == {}


def edited(folder, change, *arguments, killed=False):
    """Edit as the service does; killed, when the record is written and the classifier is not."""
    with suppress(KeyboardInterrupt), ImageClassifier.editing(folder, store=None) as classifier:
        change(folder, classifier, *arguments)
        if killed:
            raise KeyboardInterrupt


@pytest.mark.parametrize("given", [[(1, "day")], [(1, "day"), (2, "night")], [(1, "day"), (1, "night")]])
def test_an_annotation_that_was_interrupted_is_made_again(folder, given):
    before, _ = shots(folder)
    picture = NamedBytes(photo(128), "a.png")
    *made, last = given
    for number, choice in made:
        edited(folder, annotate, number, picture, choice)
    state = shots(folder)[0]
    edited(folder, annotate, last[0], picture, last[1], killed=True)
    assert shots(folder)[0] == state
    edited(folder, annotate, last[0], picture, last[1])
    assert sorted(shots(folder)[0].values()) == sorted([*before.values(), last[1]])
    for number in (2, 1):
        edited(folder, withdraw, number)
        strike(folder, number)
    assert shots(folder)[0] == before


def test_a_withdrawal_that_was_interrupted_is_made_again(folder):
    before, _ = shots(folder)
    edited(folder, annotate, 1, NamedBytes(photo(128), "a.png"), "day")
    edited(folder, withdraw, 1, killed=True)
    assert len(shots(folder)[0]) == len(before) + 1
    for _ in range(2):  # the second as after a kill before the record lost it
        edited(folder, withdraw, 1)
        assert shots(folder)[0] == before
    edited(folder, annotate, 2, NamedBytes(photo(128), "a.png"), "night")
    edited(folder, withdraw, 2)
    assert shots(folder)[0] == before


def test_a_record_that_cannot_be_read_loses_nothing(client, folder):
    for text in ("[]", "{", '{"a": 7}', '{"a": {"before": null, "annotations": 7, "coming": []}}'):
        (folder / RECORD).write_text(text)
        answer = client.post("/webhook", json=event("ANNOTATION_CREATED"))
        assert answer.status_code == 409
        assert (folder / RECORD).read_text() == text
        assert len(shots(folder)[0]) == 6


@pytest.mark.parametrize(
    "address",
    [
        "http://evil.example/a.png",
        "//evil.example/a.png",
        "file:///etc/passwd",
        "http://[",
        7,
        None,
        "s3://bucket/a.png",
        "http://127.0.0.1:1/a.png",
    ],
)
def test_nothing_is_fetched_from_elsewhere(client, studio, address):
    body = {"tasks": [{"id": 1, "data": {"image": address}}], "label_config": CONFIG}
    answer = client.post("/predict", json=body)
    assert answer.status_code == 422
    assert list(answer.json()) == ["error"]
    assert studio.asked == []


def test_redirects_are_not_followed(client, studio):
    answer = client.post("/predict", json={"tasks": [{"data": {"image": "/away"}}], "label_config": CONFIG})
    assert answer.status_code == 424
    assert studio.asked == ["/away"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {}),
        ("/predict", {"tasks": [], "label_config": CONFIG}),
        ("/predict", {"tasks": [task()], "label_config": "<!DOCTYPE a>"}),
        ("/setup", []),
        ("/webhook", {"action": 7}),
        ("/webhook", {"action": "ANNOTATION_CREATED"}),
        ("/webhook", event("ANNOTATION_CREATED") | {"task": {"data": {}}}),
    ],
)
def test_errors_have_its_shape(client, folder, path, body):
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    assert list(answer.json()) == ["error"]
    assert len(shots(folder)[0]) == 6
