"""A service in this process that speaks every protocol, on a port of its own."""

import socket
import threading
from contextlib import contextmanager

import uvicorn

from tip_adapter.serve import Settings, create_app
from tip_adapter.serve.protocols import PROTOCOLS


@contextmanager
def running(models, **settings):
    """Serve in this process, until the end."""
    app = create_app(models, Settings(**{"protocols": tuple(PROTOCOLS), **settings}))
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
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
