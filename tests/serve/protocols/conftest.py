"""A service that speaks every protocol, on a port of its own, for clients that open connections."""

import socket
import threading
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

import uvicorn

from tip_adapter import ImageClassifier
from tip_adapter.serve import Settings, create_app
from tip_adapter.serve.protocols import PROTOCOLS


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "light.tip"
    images = [np.full((32, 32, 3), shade, dtype=np.uint8) for shade in (30, 33, 36, 39, 220, 223, 226, 229)]
    ImageClassifier("fake", store=None).fit(images, ["night"] * 4 + ["day"] * 4).save(folder)
    return folder


@contextmanager
def running(folder, **settings):
    """Serve in this process, until the end."""
    app = create_app({"light": folder}, Settings(**{"protocols": tuple(PROTOCOLS), **settings}))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    started = threading.Event()

    async def startup(sockets=None, begin=server.startup):
        await begin(sockets)
        started.set()

    server.startup = startup
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    assert started.wait(60)
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture
def begin(folder):
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(folder, **settings))


@pytest.fixture(scope="session")
def address(folder):
    with running(folder) as address:
        yield address
