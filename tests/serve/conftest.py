"""A small classifier, and a client of a service that serves it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from fastapi.testclient import TestClient

from tip_adapter import ImageClassifier
from tip_adapter.serve import Settings, create_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
AXE = "node_modules/axe-core/axe.min.js"
SHADES = {"night": 30, "day": 220}


@pytest.fixture
def folder(tmp_path):
    shades = [shade + step for shade in SHADES.values() for step in (0, 3, 6, 9)]
    labels = [name for name in SHADES for _ in range(4)]
    images = [np.full((32, 32, 3), shade, dtype=np.uint8) for shade in shades]
    ImageClassifier("fake", store=None).fit(images, labels).save(tmp_path / "light.tip")
    return tmp_path / "light.tip"


@pytest.fixture
def serving():
    """Start services that are stopped at the end."""
    clients = []

    def start(models, encoder=None, raise_server_exceptions=True, **settings):
        app = create_app(models, Settings(**settings), encoder=encoder)
        client = TestClient(app, "http://127.0.0.1", raise_server_exceptions=raise_server_exceptions)
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serving, folder):
    return serving({"light": folder})


@pytest.fixture
def address(tmp_path):
    """A studio without a classifier, on a port of its own."""
    command = [sys.executable, "-m", "tip_adapter", "studio", tmp_path / "shades.tip", "-e", "fake", "--port", "0"]
    environment = os.environ | {"TIP_ADAPTER_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen([*command, "--no-browser"], stdout=subprocess.PIPE, text=True, env=environment) as process:
        found = re.search(r"at (http://[\d.:]+);", process.stdout.readline())
        assert found
        yield found[1]
        process.terminate()


@pytest.fixture
def page():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *CAMERA])
        page = chromium.new_page()
        page.wrong, page.asked = [], set()
        page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("request", lambda request: page.asked.add(request.url.split("/")[2]))
        yield page
        chromium.close()


@pytest.fixture
def axe():
    """Ask axe-core, which `npm install --prefix .venv axe-core` brings, what it has to complain about."""
    given = os.environ.get("TIP_ADAPTER_AXE")
    places = [Path(given)] if given else [place / AXE for place in (Path(sys.prefix), Path.cwd())]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        pytest.skip("axe-core is not installed: npm install --prefix .venv axe-core")

    def violations(page):
        page.evaluate(found.read_text())
        wrong = page.evaluate("axe.run()")["violations"]
        return [(one["id"], one["help"], one["nodes"][0]["html"]) for one in wrong]

    return violations
