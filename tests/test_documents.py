"""The Python examples of the documents, and the commands they mark, run as they are written."""

import re
import shlex
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tip_adapter.cli import main

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = [
    pytest.param(code, id=f"{path.name}-{number}")
    for path in DOCUMENTS
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL))
]
# A block of commands is run when the line above it is <!-- test -->.
MARKED = r"<!-- test -->\n+```bash\n(.*?)```"


def marked_commands(path):
    blocks = re.findall(MARKED, path.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("tip-adapter ")]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The folder and the photo that the examples speak of."""
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name, base in (("hat", 60), ("shoes", 190)):
        for split, count in (("train", 16), ("test", 2)):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                noise = rng.integers(-40, 40, (64, 64, 3))
                Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    (tmp_path / "new").mkdir()
    for path in (tmp_path / "a.jpg", tmp_path / "new" / "b.jpg"):
        Image.new("RGB", (64, 64), (60, 60, 60)).save(path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippet_runs(code, photos, capsys):
    # The encoder of the examples needs half a minute to prepare; what they show is the same with any.
    exec(compile(textwrap.dedent(code).replace('"lite"', '"fake"'), "snippet", "exec"), {})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_marked_commands_run_in_order(document, photos, capsys, monkeypatch):
    for line in marked_commands(document):
        monkeypatch.setattr(sys, "argv", shlex.split(line.replace(" lite ", " fake "), comments=True))
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0, f"{line}: {capsys.readouterr().err}"


def test_the_readme_has_marked_commands():
    assert len(marked_commands(ROOT / "README.md")) >= 3


def test_there_are_snippets():
    assert SNIPPETS


def test_links_lead_somewhere():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} points to {target}, which is not there"


def test_the_exit_codes_are_those_of_the_errors():
    from tip_adapter import errors
    from tip_adapter.cli.app import INTERRUPTED

    table = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8").split("## Exit codes")[1].split("##")[0]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    raised = {each.exit_code for each in vars(errors).values() if hasattr(each, "exit_code")}
    assert documented == raised | {0, 1, 2, INTERRUPTED}
