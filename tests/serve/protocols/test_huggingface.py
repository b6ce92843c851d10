"""Hugging Face's clients ask for classes."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest

from serve_files import photo

NODE = shutil.which("node")
MODULES = Path(os.environ.get("TIP_ADAPTER_NODE_MODULES", "node_modules")).resolve()
SCRIPT = """
import { InferenceClient } from %s;
const photo = new Blob([new Uint8Array(%s)], { type: "image/png" });
const client = new InferenceClient("", { endpointUrl: %s });
console.log(JSON.stringify(await client.imageClassification({ data: photo })));
"""


@pytest.fixture
def client(address):
    hub = pytest.importorskip("huggingface_hub")
    return hub.InferenceClient(model=f"http://{address}/huggingface")


def test_the_client_classifies(client):
    found = client.image_classification(photo(25))
    assert [one.label for one in found] == ["night", "day"]
    assert sum(one.score for one in found) == pytest.approx(1)


def test_parameters(client, address):
    (best,) = client.image_classification(photo(25), top_k=1)
    assert best.label == "night"
    logits = client.image_classification(photo(25), function_to_apply="none")
    sigmoid = client.image_classification(photo(25), function_to_apply="sigmoid")
    assert [one.score for one in sigmoid] == pytest.approx([1 / (1 + np.exp(-one.score)) for one in logits])
    named = httpx.post(f"http://{address}/huggingface/models/light", content=photo(25))
    assert named.json()[0] == {"label": "night", "score": pytest.approx(best.score)}


def test_the_client_from_npm(address):
    module = MODULES / "@huggingface" / "inference" / "dist" / "esm" / "index.js"
    if NODE is None or not module.is_file():
        pytest.skip("@huggingface/inference is not installed (npm install @huggingface/inference)")
    script = SCRIPT % (json.dumps(str(module)), list(photo(25)), json.dumps(f"http://{address}/huggingface"))
    ended = subprocess.run([NODE, "--input-type=module", "-e", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)[0]["label"] == "night"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "JSON"),
        (b"[" * 100_000, "deep"),
        (b"[]", "dict"),
        (b'{"inputs": 7}', "inputs"),
        (b'{"inputs": "no base64!"}', "base64"),
        (b'{"inputs": "https://example.com/a.jpg"}', "not fetched"),
        (b'{"inputs": "aGF0"}', "inputs"),
        (b'{"inputs": "", "parameters": {"top_k": 0}}', "top_k"),
        (b'{"inputs": "", "parameters": {"function_to_apply": "exp"}}', "function_to_apply"),
    ],
)
def test_errors_have_its_shape(address, body, words):
    answer = httpx.post(f"http://{address}/huggingface", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert words in answer.json()["error"]


def test_errors_before_a_route(begin):
    address = begin(token="s3cret", max_body_bytes=10_000)
    assert httpx.post(f"http://{address}/huggingface", content=b"x").json()["error"].startswith("Expected the header")
    known = {"authorization": "Bearer s3cret"}
    large = httpx.post(f"http://{address}/huggingface", content=b"x" * 10_001, headers=known)
    assert (large.status_code, list(large.json())) == (413, ["error"])
    missing = httpx.post(f"http://{address}/huggingface/models/none", content=photo(25), headers=known)
    assert (missing.status_code, list(missing.json())) == (404, ["error"])


def test_a_bomb_in_base64(address):
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("1", (16_000, 16_000)).save(out, "PNG")
    body = {"inputs": base64.b64encode(out.getvalue()).decode()}
    answer = httpx.post(f"http://{address}/huggingface", json=body, timeout=60)
    assert answer.status_code == 422
    assert "pixels" in answer.json()["error"]
