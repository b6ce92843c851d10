"""A service that speaks every protocol, on a port of its own, for clients that open connections."""

from contextlib import ExitStack

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from running_service import running
from tip_adapter import ImageClassifier


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "light.tip"
    images = [np.full((32, 32, 3), shade, dtype=np.uint8) for shade in (30, 33, 36, 39, 220, 223, 226, 229)]
    ImageClassifier("fake", store=None).fit(images, ["night"] * 4 + ["day"] * 4).save(folder)
    return folder


@pytest.fixture
def begin(folder):
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running({"light": folder}, **settings))


@pytest.fixture(scope="session")
def address(folder):
    with running({"light": folder}) as address:
        yield address
