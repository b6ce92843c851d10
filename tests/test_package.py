"""The public names, and what importing the package costs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tip_adapter


def test_all_is_sorted_and_resolves():
    assert sorted(tip_adapter.__all__, key=lambda name: (not name.isupper(), name)) == tip_adapter.__all__
    for name in tip_adapter.__all__:
        assert getattr(tip_adapter, name) is not None


def test_the_api_pages_list_every_public_name_under_its_home():
    pages = Path(__file__).parents[1] / "docs" / "api"
    text = "".join(page.read_text(encoding="utf-8") for page in pages.glob("*.md"))
    listed = re.findall(r"auto(?:class|function|data|exception):: (\S+)", text)
    homes = {name.rpartition(".")[2]: name for name in listed}
    assert [name for name in tip_adapter.__all__ if name not in homes] == []
    root = (pages / "index.md").read_text(encoding="utf-8").split("`from tip_adapter import`")[1]
    assert sorted(re.findall(r"`(\w+)`", root)) == sorted(tip_adapter.__all__)


def test_unknown_name():
    with pytest.raises(AttributeError, match="nothing_like_this"):
        tip_adapter.nothing_like_this  # noqa: B018


@pytest.mark.parametrize("statement", ["import tip_adapter", "from tip_adapter import ImageClassifier"])
def test_import_loads_nothing_heavy(statement):
    heavy = ("torch", "transformers", "sklearn", "scipy", "onnxruntime", "matplotlib", "rich", "huggingface_hub")
    code = f"import sys; {statement}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
