"""What newcomers bring: photos by the dozen, in whatever form they have them."""

import numpy as np
import pytest
from PIL import Image

COLORS = {"café crème": (200, 160, 120), "green tea": (90, 190, 90), "red wine": (130, 20, 40)}


@pytest.fixture
def photo():
    """Make a photo of a drink, with a grain of its own."""

    def make(name, number):
        grain = np.random.default_rng(number).integers(-20, 20, (40, 48, 3))
        return Image.fromarray(np.clip(np.array(COLORS[name]) + grain, 0, 255).astype(np.uint8))

    return make


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An empty folder to work in, and a cache of its own."""
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"
