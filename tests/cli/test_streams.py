"""Pipes whose reader leaves, full disks, locales without UTF-8, and arguments that are empty or name no file."""

import json
import os
import shutil
import subprocess
import sys

import pytest

COMMANDS = [
    ["--help"],
    ["fit", "--help"],
    ["info"],
    ["info", "--json"],
    ["info", "c.tip"],
    ["predict", "c.tip", "photos/test"],
    ["predict", "c.tip", "photos/test", "--json"],
    ["explain", "c.tip", "photos/test"],
    ["evaluate", "c.tip", "photos/test"],
    ["doctor", "c.tip"],
    ["shots", "c.tip"],
    ["journal", "c.tip"],
    ["embed", "photos/train"],
]

SESSION = """
import io, json, os, sys
from tip_adapter.cli import main
sys.stdout.reconfigure(write_through=True)
for command in json.loads(sys.argv.pop()):
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    sys.argv = ["tip-adapter", *command]
    try:
        main()
    except SystemExit as stop:
        print(command, stop.code, file=sys.stderr)
"""


@pytest.fixture
def here(model, photos, monkeypatch):
    """The folder of photos and c.tip."""
    monkeypatch.setenv("TIP_ADAPTER_ENCODER", "fake")
    monkeypatch.chdir(photos.parent)
    return photos.parent


def test_a_reader_that_leaves_ends_every_command_quietly(here):
    command = [sys.executable, "-c", SESSION, json.dumps(COMMANDS)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.stderr.splitlines() == [f"{command} 0" for command in COMMANDS]


def test_nobody_reads_the_messages_of_an_edit(here):
    reader, writer = os.pipe()
    os.close(reader)
    shutil.copy(here / "photos/test/red/photo 0é.png", here / "photos/test/red/copy.png")
    command = [sys.executable, "-m", "tip_adapter", "add", "c.tip", "photos/test/red", "--class", "red"]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, text=True, timeout=60)
    os.close(writer)
    assert (process.returncode, process.stdout) == (0, "3 shots added: 15 shots of 3 classes\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout(here):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "tip_adapter", "info"]
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert process.returncode == 1
    assert process.stderr == "error: input or output: No space left on device\n"


def test_a_locale_without_utf8(here):
    os.rename(here / "photos" / "train" / "red", here / "photos" / "train" / "röd")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = {"capture_output": True, "env": environment, "timeout": 60}
    for command in (["fit", "photos/train", "-o", "u.tip", "-m", "prototype"], ["shots", "u.tip", "--class", "röd"]):
        process = subprocess.run([sys.executable, "-m", "tip_adapter", *command], **run)
        assert (process.returncode, process.stderr) == (0, b"")
    assert process.stdout.decode().count("photos/train/röd/photo") == 5


@pytest.mark.parametrize("argument", ["", "  ", "--output=", "--output= "])
def test_an_empty_argument_is_refused(fails, here, argument):
    fails(2, "argument 3 is empty", "predict", "c.tip", argument)
    fails(2, "argument 2 is empty", "fit", argument)


@pytest.mark.parametrize("argument", ["/dev/stdin", "/dev/fd/0"])
def test_standard_input_is_not_read(fails, run, here, argument):
    fails(2, f"got {argument}: standard input is not read here", "predict", "c.tip", argument)
    fails(2, "standard input is not read", "fit", argument)


def test_a_class_may_be_called_dash(run, here):
    assert run("class", "rename", "c.tip", "red", "-")[0] == 0
    assert run("shots", "c.tip", "--class", "-")[0] == 0
