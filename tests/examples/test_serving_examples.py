"""Examples that speak to a service, and to a Label Studio that writes down what it is asked."""

import json
import re
import shutil
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from running_service import running
from tip_adapter import ImageClassifier


@pytest.fixture
def folder(photos):
    ImageClassifier("fake", "tip-adapter", store=None).fit(photos / "train").save(photos / "c.tip")
    return photos / "c.tip"


@contextmanager
def label_studio():
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.headers["Authorization"] == "Token s3cret"
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(201)
            self.end_headers()
            self.wfile.write(b'{"id": 7}')

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_python_javascript_and_curl_get_the_same_answers(example, folder):
    names = ["test/red/photo 0é.png", "test/sky blue/photo 1é.png"]
    with running({"c": folder}) as address:
        address = f"http://{address}"
        lines = example("serve/ask.py", address, *names).splitlines()
        assert [re.sub(r" [\d.]+$", "", line) for line in lines] == [f"{names[0]}: red", f"{names[1]}: sky blue"]
        if shutil.which("node"):
            assert example("serve/ask.mjs", address, *names, program="node").splitlines() == lines
        if shutil.which("curl"):
            answers = example("serve/ask.sh", address, *names, program="sh").splitlines()
            assert [json.loads(answer)["predictions"][0]["class"] for answer in answers] == ["red", "sky blue"]


def test_a_label_studio_project_teaches_the_classifier(example, folder, photos):
    noise = np.random.default_rng(0).integers(0, 255, (48, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(photos / "test" / "noise.png")  # the others are copies of shots
    with label_studio() as (studio, asked), running({"c": folder}, protocols=("label-studio",)) as address:
        service = f"http://{address}"
        options = ["--label-studio", studio, "--service", service, "--count", 2]
        out = example("label_studio.py", folder, "test", *options, LABEL_STUDIO_API_KEY="s3cret")
        paths = [path for path, _ in asked]
        assert paths == ["/api/projects/", "/api/ml/", "/api/webhooks/", "/api/projects/7/import"]
        project, backend, hook, tasks = (body for _, body in asked)
        assert out == f"{len(tasks)} photos to label: {studio}/projects/7\n"
        # What Label Studio then sends to the addresses that it was given is understood.
        assert httpx.get(f"{backend['url']}/health").status_code == 200
        wanted = {"tasks": [{"id": 1, **tasks[0]}], "label_config": project["label_config"]}
        predicted = httpx.post(f"{backend['url']}/predict", json=wanted).json()["results"][0]["result"][0]
        annotation = {"id": 1, "result": [predicted | {"value": {"choices": ["green"]}}]}
        event = {"action": hook["actions"][0], "annotation": annotation, "task": tasks[0], "project": project}
        before = len(ImageClassifier.load(folder).model_.shots)
        assert httpx.post(hook["url"], json=event).status_code == 200
        model = ImageClassifier.load(folder).model_
        assert len(model.shots) == before + 1
        assert model.counts[model.class_names.index("green")] == 6
