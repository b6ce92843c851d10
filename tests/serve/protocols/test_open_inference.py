"""Triton's client, and requests of KServe's V1, ask for labels, probabilities and evidence."""

import base64
import json

import httpx
import numpy as np
import pytest

from serve_files import photo


@pytest.fixture
def client(address):
    http = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    client = http.InferenceServerClient(f"{address}/open-inference")
    yield client
    client.close()


@pytest.mark.parametrize("binary", [True, False])
def test_the_client_infers(client, binary):
    from tritonclient.http import InferInput, InferRequestedOutput

    photos = [photo(25), photo(225)]
    if not binary:
        photos = [base64.b64encode(one) for one in photos]
    given = InferInput("image", [2], "BYTES")
    given.set_data_from_numpy(np.array(photos, dtype=object), binary_data=binary)
    found = client.infer("light", [given])
    assert found.as_numpy("label").tolist() == ["night", "day"]
    probabilities = found.as_numpy("probabilities")
    names = found.as_numpy("class_names").tolist()
    assert [names[column] for column in probabilities.argmax(axis=1)] == ["night", "day"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    alone = client.infer("light", [given], outputs=[InferRequestedOutput("label")])
    assert [one["name"] for one in alone.get_response()["outputs"]] == ["label"]


def test_the_client_asks_how_things_are(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("light")
    assert not client.is_model_ready("none")
    assert client.get_server_metadata()["name"] == "tip-adapter"
    assert client.get_model_metadata("light")["inputs"][0]["datatype"] == "BYTES"


def test_the_client_understands_errors(client):
    from tritonclient.http import InferInput
    from tritonclient.utils import InferenceServerException

    given = InferInput("image", [1], "BYTES")
    given.set_data_from_numpy(np.array([b"no photo"], dtype=object))
    with pytest.raises(InferenceServerException, match="photo 0"):
        client.infer("light", [given])


@pytest.mark.parametrize("instance", [lambda one: {"b64": one}, lambda one: {"image": {"b64": one}}])
def test_v1(address, instance):
    body = {"instances": [instance(base64.b64encode(photo(25)).decode())]}
    (found,) = httpx.post(f"http://{address}/open-inference/v1/models/light:predict", json=body).json()["predictions"]
    assert found["class"] == "night"
    assert [one["class"] for one in found["top"]] == ["night", "day"]
    answer = httpx.post(f"http://{address}/open-inference/v1/models/light:explain", json=body).json()
    assert answer["explanations"][0]["evidence"]["deciding"]
    assert httpx.get(f"http://{address}/open-inference/v1/models/light").json() == {"name": "light", "ready": True}


def tensor(**changes):
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["aGF0"], **changes}]}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("v2/models/light/infer", {"inputs": []}, "inputs"),
        ("v2/models/light/infer", tensor(datatype="FP32"), "BYTES"),
        ("v2/models/light/infer", tensor(shape=[2]), "shape"),
        ("v2/models/light/infer", tensor(shape=[10**200] * 90), "shape"),
        ("v2/models/light/infer", tensor(data=[7]), "base64"),
        ("v2/models/light/infer", tensor(data=["https://example.com/a.jpg"]), "not fetched"),
        ("v2/models/light/infer", tensor(data=[], shape=[0]), "1 to 256"),
        ("v2/models/light/infer", tensor(), "photo 0"),
        ("v1/models/light:predict", {"instances": []}, "1 to 256"),
        ("v1/models/light:predict", {"instances": [[]]}, "instances"),
        ("v1/models/light:explain", {"instances": [{}]}, "base64"),
    ],
)
def test_errors_have_its_shape(address, path, body, words):
    answer = httpx.post(f"http://{address}/open-inference/{path}", json=body)
    assert answer.status_code == 422
    assert words in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "999999", "²", "1" * 5000])
def test_odd_lengths(address, length):
    headers = {"inference-header-content-length": length.encode()}
    answer = httpx.post(f"http://{address}/open-inference/v2/models/light/infer", content=b"{}", headers=headers)
    assert answer.status_code == 400
    assert "number of bytes" in answer.json()["error"]


def test_tensors_cut_short(address):
    head = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]}).encode()
    for behind in (b"\x01", b"\xff\xff\xff\xff", b"\x09\0\0\0x"):
        answer = httpx.post(
            f"http://{address}/open-inference/v2/models/light/infer",
            content=head + behind,
            headers={"inference-header-content-length": str(len(head))},
        )
        assert answer.status_code == 422
        assert "photo 0" in answer.json()["error"]
