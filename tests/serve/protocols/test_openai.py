"""OpenAI's client asks for embeddings of photos and texts."""

import base64

import httpx
import numpy as np
import pytest

from serve_files import files, photo


def data(shade):
    return "data:image/png;base64," + base64.b64encode(photo(shade)).decode()


@pytest.fixture
def client(address):
    openai = pytest.importorskip("openai", reason="openai is not installed")
    with openai.OpenAI(base_url=f"http://{address}/openai/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_client_lists_models(client):
    assert [model.id for model in client.models.list()] == ["light"]
    assert client.models.retrieve("light").id == "light"


@pytest.mark.parametrize("encoding_format", ["float", "base64", None])
def test_photos_and_texts_in_any_order(client, address, encoding_format):
    given = {"encoding_format": encoding_format} if encoding_format else {}
    found = client.embeddings.create(model="light", input=["a night", data(25), "a day"], **given).data
    assert [one.index for one in found] == [0, 1, 2]
    rows = np.array(
        [
            np.frombuffer(base64.b64decode(one.embedding), "<f4") if isinstance(one.embedding, str) else one.embedding
            for one in found
        ]
    )
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    native = httpx.post(f"http://{address}/v1/embed", files=files(25)).json()["photos"][0]["feature"]
    np.testing.assert_allclose(rows[1], native, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"input": []}, "1 to 256"),
        ({"input": [1, 2]}, "input"),
        ({"input": ""}, "nothing"),
        ({"input": "https://example.com/a.jpg"}, "not fetched"),
        ({"input": "file:///etc/passwd"}, "not fetched"),
        ({"input": "data:image/png,abc"}, "base64"),
        ({"input": "data:image/png;base64,aGF0"}, "input 0"),
        ({"input": ["a"] * 257}, "1 to 256"),
        ({"input": "a", "dimensions": 3}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_errors_have_its_shape(address, given, words):
    answer = httpx.post(f"http://{address}/openai/v1/embeddings", json={"model": "light", **given})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


def test_the_client_understands_errors(client):
    import openai

    with pytest.raises(openai.NotFoundError, match="there are light"):
        client.embeddings.create(model="none", input="a")


def test_a_photo_of_50_mb(address):
    long = "data:image/png;base64," + base64.b64encode(b"x" * 37_500_000).decode()
    answer = httpx.post(f"http://{address}/openai/v1/embeddings", json={"model": "light", "input": long}, timeout=60)
    assert answer.status_code in (413, 422)
    assert answer.json()["error"]["type"] == "invalid_request_error"
