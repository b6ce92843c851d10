"""A small classifier, and a client of a service that serves it."""

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from fastapi.testclient import TestClient

from tip_adapter import ImageClassifier
from tip_adapter.serve import Settings, create_app

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
