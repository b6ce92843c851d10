"""Every exit code that docs/commands.md lists occurs, and no other."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tip_adapter.cli import completion
from tip_adapter.cli.app import INTERRUPTED
from tip_adapter.errors import TipAdapterError

TABLE = Path(__file__).parents[2] / "docs" / "commands.md"


def documented():
    section = TABLE.read_text(encoding="utf-8").split("## Exit codes")[1].split("\n## ")[0]
    return {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}


def classes(base):
    return [base, *(each for child in base.__subclasses__() for each in classes(child))]


def test_the_table_has_the_codes_of_all_errors():
    assert {each.exit_code for each in classes(TipAdapterError)} | {0, 2, INTERRUPTED} == documented()


def test_each_code_occurs(run, photos, model, monkeypatch, tmp_path):
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    cases = {
        0: ["predict", model, photos / "test", tmp_path / "bad.png", "--skip-bad"],
        1: ["predict", model, photos / "test", "-o", tmp_path / "file" / "t.csv"],
        2: ["predict", model, photos, "--top-k", 0],
        3: ["predict", model, tmp_path / "bad.png"],
        4: ["predict", tmp_path / "gone.tip", photos],
        5: ["fit", photos, "-e", "no-such-encoder", "-o", tmp_path / "d.tip"],
        6: ["embed", photos, "-e", "fake", "-o", tmp_path / "features.parquet"],
    }
    assert {code: run(*command)[0] for code, command in cases.items()} == {code: code for code in cases}
    assert documented() - set(cases) == {7, INTERRUPTED}  # 7: tests/methods; interrupted: below


def test_an_interrupted_stream(photos, model):
    name = next((photos / "test").rglob("*.png"))
    command = [sys.executable, "-m", "tip_adapter", "predict", str(model), "-", "--json"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        process.stdin.write(os.fsencode(name) + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count(b"\n")) == (INTERRUPTED, 1)
    assert err.startswith(b"interrupted: ")


@pytest.mark.parametrize(
    ("typed", "found"),
    [("predict c", "c.tip"), ("fit x -m tip-a", "tip-adapter-f"), ("fit x -e clip-vit-b-32+li", "clip-vit-b-32+lite")],
)
def test_the_shell_completes(model, typed, found):
    program = "import sys; sys.argv = ['tip-adapter']; from tip_adapter.cli import main; main()"
    words = f"tip-adapter {typed}"
    completing = {"_TIP_ADAPTER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=model.parent, env=os.environ | completing, capture_output=True, text=True
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert found in process.stdout.split()


def test_classifiers_in_folders_are_completed(model):
    assert completion.saved_classifiers(f"{model.parent}/") == [str(model)]
    assert completion.saved_classifiers(f"{model.parent}/d") == []
    assert completion.saved_classifiers("/no/such/folder/") == []
