"""The Python examples of the documents run as they are written."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = [
    pytest.param(code, id=f"{path.name}-{number}")
    for path in DOCUMENTS
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL))
]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The folder and the photo that the examples speak of."""
    rng = np.random.default_rng(0)
    for name, base in (("hat", 60), ("shoes", 190)):
        folder = tmp_path / "photos" / "train" / name
        folder.mkdir(parents=True)
        for index in range(16):
            noise = rng.integers(-40, 40, (64, 64, 3))
            Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    Image.new("RGB", (64, 64), (60, 60, 60)).save(tmp_path / "a.jpg")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippet_runs(code, photos, capsys):
    # The encoder of the examples needs half a minute to prepare; what they show is the same with any.
    exec(compile(code.replace('"lite"', '"fake"'), "snippet", "exec"), {})


def test_there_are_snippets():
    assert SNIPPETS


def test_links_lead_somewhere():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} points to {target}, which is not there"
