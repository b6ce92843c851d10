"""What goes to a terminal that asks for no colours, or can do nothing but lines."""

import os
import re
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty", reason="terminals are looked at on POSIX systems")

COMMANDS = [["--help"], ["predict", "c.tip", "photos/test"], ["predict", "--no-such"]]
SESSION = """
import sys
from tip_adapter.cli import main
for command in {commands!r}:
    sys.argv = ["tip-adapter", *command]
    try:
        main()
    except SystemExit:
        pass
"""


def raw(folder, columns, **environment):
    """Everything that the commands write to a terminal."""
    leader, follower = pty.openpty()
    unset = ("NO_COLOR", "FORCE_COLOR", "TERM", "COLORTERM")
    given = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-c", SESSION.format(commands=COMMANDS)]
    given |= environment | {"COLUMNS": str(columns)}
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=given, cwd=folder):
        os.close(follower)
        pieces = []
        try:
            while piece := os.read(leader, 1 << 16):
                pieces.append(piece)
        except OSError:  # the other side is closed
            os.close(leader)
    return b"".join(pieces).decode()


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


def test_colours_only_where_they_are_wanted(model):
    assert COLOUR.search(raw(model.parent, 80, TERM="xterm-256color"))
    assert not COLOUR.search(raw(model.parent, 80, TERM="xterm-256color", NO_COLOR="1"))
    dumb = raw(model.parent, 60, TERM="dumb")
    assert "sky blue" in dumb
    assert not re.search("[\x1b\r](?!\n)", dumb)
