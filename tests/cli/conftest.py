"""The program as a user runs it, in this process."""

import pytest


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
def fake_encoder(monkeypatch):
    """Make `fake` the default encoder."""
    monkeypatch.setenv("TIP_ADAPTER_ENCODER", "fake")


@pytest.fixture
def here(photos, fake_encoder, monkeypatch):
    """The folder above the photos, as the working directory."""
    monkeypatch.chdir(photos.parent)
    return photos.parent


@pytest.fixture
def model(run, photos, tmp_path):
    """A saved classifier of the training photos."""
    path = tmp_path / "c.tip"
    assert run("fit", photos, "-e", "fake", "-k", 4, "-m", "tip-adapter", "-o", path)[0] == 0
    return path
