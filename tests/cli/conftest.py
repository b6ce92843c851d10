"""The program as a user runs it, in this process."""

import sys

import pytest

from tip_adapter.cli import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the program; returns exit code, stdout, stderr without what was noticed about the data (`run.data`)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["tip-adapter", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        lines = captured.err.splitlines(keepends=True)
        call.data = [line.removeprefix("data: ").rstrip() for line in lines if line.startswith("data: ")]
        return code, captured.out, "".join(line for line in lines if not line.startswith("data: "))

    return call


@pytest.fixture
def fails(run):
    """Run the program, which must print nothing but one line on stderr, with the given words."""

    def call(code, words, *arguments):
        got, out, err = run(*arguments)
        assert (got, out) == (code, ""), (got, out, err)
        assert err.count("\n") == 1, err
        assert err.startswith("error: ")
        for word in [words] if isinstance(words, str) else words:
            assert word in err

    return call


@pytest.fixture
def model(run, photos, tmp_path):
    """A saved classifier of the training photos."""
    path = tmp_path / "c.tip"
    assert run("fit", photos, "-e", "fake", "-k", 4, "-m", "tip-adapter", "-o", path)[0] == 0
    return path
