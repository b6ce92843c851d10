"""Long calls say what they are doing: a bar on a terminal, a plain line now and then elsewhere."""

import re
import sys

import numpy as np

from tip_adapter import ImageClassifier
from tip_adapter.encoders.fake import FakeEncoder
from tip_adapter.features.extraction import extract_features
from tip_adapter.progress import announce, progress_bar

PHOTOS = [np.full((32, 32, 3), shade, dtype=np.uint8) for shade in range(0, 240, 20)]


def on_a_terminal(monkeypatch):
    """Let stderr be a terminal; pytest changes streams between fixtures and test, so this is called in the test."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")


def words_on(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err)


def test_short_work_prints_nothing_where_stderr_is_no_terminal(capsys):
    with progress_bar("Encoding") as progress:
        progress(1, 2, 0)
    assert capsys.readouterr() == ("", "")


def test_long_work_prints_plain_lines_where_stderr_is_no_terminal(capsys):
    with progress_bar("Encoding", seconds=0.01) as progress:
        progress(3, 10, 1)
        while "Encoding: 3 of 10 images, 1 known, 0 s so far" not in words_on(capsys):
            pass
        announce(progress, "Choosing hyper-parameters")
        while "Choosing hyper-parameters: at work" not in words_on(capsys):
            pass


def test_a_bar_counts_and_then_says_what_follows(capsys, monkeypatch):
    on_a_terminal(monkeypatch)
    with progress_bar("Encoding") as progress:
        extract_features(FakeEncoder(), [*PHOTOS, PHOTOS[0]], batch_size=2, progress=progress)
        announce(progress, "Choosing hyper-parameters")
    shown = words_on(capsys)
    assert "Encoding" in shown
    assert "13 of 13 images, 1 known" in shown
    assert shown.index("Choosing hyper-parameters") > shown.index("13 of 13")


def test_fitting_never_stands_at_all_of_the_photos(capsys, monkeypatch):
    on_a_terminal(monkeypatch)
    labels = ["dark"] * 6 + ["light"] * 6
    with progress_bar("Encoding photos") as progress:
        ImageClassifier("fake", "tip-adapter", store=None).fit(PHOTOS, labels, progress=progress)
    shown = words_on(capsys)
    parts = [shown.index(words) for words in ("Encoding photos", "Choosing hyper-parameters", "Calibrating on shots")]
    assert parts == sorted(parts)


def test_names_in_notes_do_not_steer_the_terminal(capsys, monkeypatch):
    on_a_terminal(monkeypatch)
    with progress_bar("Fitting") as display:
        display.show(1, 2, "red\x1b[2J")
    assert "\\x1b[2J" in words_on(capsys)


def test_any_callable_is_a_progress():
    calls = []
    announce(lambda *counts: calls.append(counts), "Choosing")
    announce(None, "Choosing")
    assert calls == []
