"""Answers over HTTP are those of the classifier, whoever else asks."""

import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serve_files import files, photo
from tip_adapter import ImageClassifier
from tip_adapter.encoders.fake import FakeEncoder


def test_many_photos_get_the_answers_of_the_classifier(client, folder):
    shades = [25, 40, 200, 210, 128]
    found = client.post("/v1/predict?top_k=2", files=files(*shades)).json()
    images = [np.full((32, 32, 3), shade, dtype=np.uint8) for shade in shades]
    expected = ImageClassifier.load(folder, store=None).predict_top(images, top_k=2)
    assert found["model"] == "light"
    for row, one, shade in zip(found["predictions"], expected, shades, strict=True):
        assert row["name"] == f"{shade}.png"
        assert [top["class"] for top in row["top"]] == [name for name, _ in one.top]
        assert row["probability"] == pytest.approx(one.top[0][1], abs=1e-6)


def test_a_photo_as_the_body(client):
    headers = {"content-type": "image/png", "content-disposition": 'inline; filename="../../dark.png"'}
    (row,) = client.post("/v1/predict", content=photo(25), headers=headers).json()["predictions"]
    assert (row["name"], row["class"]) == ("dark.png", "night")


def test_sets_evidence_and_none_of_these(client):
    (row,) = client.post("/v1/predict?coverage=0.8&evidence=2&none_of_these=0.2", files=files(31)).json()["predictions"]
    assert row["set"][0]["class"] == "night"
    assert row["evidence"]["answer"] == "night"
    assert len(row["evidence"]["deciding"]) == 2
    assert row["none_of_these"] in (True, False)


def test_a_coverage_that_cannot_be_given_is_told_before_anything_is_encoded(client):
    answer = client.post("/v1/predict?coverage=0.999", content=b"", headers={"content-type": "image/png"})
    assert answer.status_code == 422
    assert "coverage of 0.999 needs at least" in answer.json()["detail"]


def test_a_bad_photo_among_others_is_named_and_the_others_answered(client):
    mixed = [*files(25), ("files", ("notes.jpg", b"no picture", "image/jpeg")), *files(220)]
    rows = client.post("/v1/predict", files=mixed).json()["predictions"]
    assert [row.get("class") for row in rows] == ["night", None, "day"]
    assert rows[1]["error"].startswith("Expected notes.jpg to be one of JPEG")


def test_only_bad_photos(client):
    answer = client.post("/v1/predict", files=[("files", ("a.jpg", b"no picture", "image/jpeg"))])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith("Expected a.jpg to be one of")


def test_the_same_bad_photo_of_several_clients_keeps_its_names(client):
    """Requests that are encoded together must not learn from each other what their files are called."""
    same = [("files", (name, b"no picture", "image/jpeg")) for name in ("mine.jpg", "yours.jpg")]
    rows = client.post("/v1/predict", files=[*files(25), *same]).json()["predictions"]
    assert [row.get("error", "")[:18] for row in rows] == ["", "Expected mine.jpg ", "Expected yours.jpg"]


def test_features_are_those_of_the_encoder(client):
    from tip_adapter.encoders import load_encoder

    found = client.post("/v1/embed", files=files(25, 220)).json()
    raw = load_encoder("fake").encode_images([np.full((32, 32, 3), shade, dtype=np.uint8) for shade in (25, 220)])
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose([row["feature"] for row in found["photos"]], expected, atol=1e-6)
    assert found["dim"] == expected.shape[1]


def test_requests_at_the_same_time_get_their_own_answers(client):
    shades = [20 + 5 * index for index in range(40)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda shade: client.post("/v1/predict", files=files(shade)).json(), shades))
    alone = [client.post("/v1/predict", files=files(shade)).json() for shade in shades]
    for together, single in zip(answers, alone, strict=True):
        (one,), (other,) = together["predictions"], single["predictions"]
        assert one["class"] == other["class"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
    assert "tip_adapter_batch_photos_count" in client.get("/metrics").text


def test_models_by_name_share_an_encoder(serving, folder, tmp_path):
    classifier = ImageClassifier.load(folder, store=None)
    classifier.rename_class("night", "dark")
    classifier.save(tmp_path / "other.tip")
    client = serving({"light": folder, "other": tmp_path / "other.tip"})
    names = [
        client.post(f"/v1/predict?model={name}", files=files(25)).json()["predictions"][0]["class"]
        for name in ("light", "other")
    ]
    assert names == ["night", "dark"]
    one, other = client.app.state.models
    assert one.queue is other.queue
    assert client.post("/v1/predict", files=files(25)).json()["detail"] == "Which model? ?model= is one of light, other"
    assert client.get("/v1/model?model=third").status_code == 404


def test_the_whole_queue_full_answers_503(serving, folder, monkeypatch):
    gate, begun, plain = threading.Event(), threading.Event(), FakeEncoder.encode_pixels

    def slow(self, pixels):
        begun.set()
        gate.wait(20)
        return plain(self, pixels)

    client = serving({"light": folder}, queue=2, batch=1)
    monkeypatch.setattr(FakeEncoder, "encode_pixels", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/predict", files=files(25))
        assert begun.wait(20)
        served = next(iter(client.app.state.models))
        waiting = served.queue.submit(["a", "b"])
        full = client.post("/v1/predict", files=files(26))
        assert full.status_code == 503
        assert full.headers["retry-after"] == "1"
        assert [future.cancel() for future in waiting] == [True, True]
        gate.set()
        assert first.result().status_code == 200
    assert client.post("/v1/predict", files=files(26)).status_code == 200


def test_too_slow_an_encoder_answers_504(serving, folder, monkeypatch):
    gate = threading.Event()
    client = serving({"light": folder}, answer_s=0.05)
    monkeypatch.setattr(FakeEncoder, "encode_pixels", lambda self, pixels: gate.wait(20))
    answer = client.post("/v1/predict", files=files(25))
    gate.set()
    assert answer.status_code == 504


def test_an_encoder_that_fails_is_no_end(serving, folder, monkeypatch):
    client, plain = serving({"light": folder}, raise_server_exceptions=False), FakeEncoder.encode_pixels
    monkeypatch.setattr(FakeEncoder, "encode_pixels", lambda self, pixels: [][1])
    answer = client.post("/v1/predict", files=files(25))
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "index" not in answer.text
    monkeypatch.setattr(FakeEncoder, "encode_pixels", plain)
    assert client.post("/v1/predict", files=files(25)).status_code == 200


def test_documentation_asks_nobody_else(client):
    page = client.get("/docs").text
    assert "POST /v1/predict" in page
    assert "http" not in page.replace("http-equiv", "")
    paths = client.get("/openapi.json").json()["paths"]
    assert paths["/v1/shots"].keys() == {"get", "post", "patch", "delete"}
    assert "application/problem+json" in paths["/v1/shots"]["post"]["responses"]["default"]["content"]


def test_a_large_picture_is_refused_in_a_line(client):
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = photo(25)[:8] + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + photo(25)[33:]
    answer = client.post("/v1/predict", files=[("files", ("bomb.png", bomb, "image/png"))])
    assert answer.status_code == 422
    assert "bomb.png" in answer.json()["detail"]
    assert "pixels" in answer.json()["detail"]


def test_answers_from_features_are_those_of_the_photos(client):
    photos = client.post("/v1/embed", files=files(30, 220)).json()["photos"]
    body = np.array([one["feature"] for one in photos], dtype="<f4").tobytes()
    kind = {"content-type": "application/octet-stream"}
    wanted = "top_k=2&evidence=1"
    from_features = client.post(f"/v1/predict/features?{wanted}", content=body, headers=kind).json()["predictions"]
    from_photos = client.post(f"/v1/predict?{wanted}", files=files(30, 220)).json()["predictions"]
    assert [one["class"] for one in from_features] == ["night", "day"]
    for one, other in zip(from_features, from_photos, strict=True):
        assert one["top"] == other["top"]
        assert one["evidence"]["deciding"] == other["evidence"]["deciding"]


@pytest.mark.parametrize("body", [b"", b"abc", np.full(64, np.nan, "<f4").tobytes(), np.full(64, 9, "<f4").tobytes()])
def test_features_that_are_none(client, body):
    answer = client.post("/v1/predict/features", content=body, headers={"content-type": "application/octet-stream"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("Expected")
