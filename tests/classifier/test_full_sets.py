"""Full conformal sets of a classifier, in Python and on the command line, and who cannot have them."""

import json
import sys

import numpy as np
import pytest

from tip_adapter import ImageClassifier
from tip_adapter.cli import main
from tip_adapter.errors import InputError


def queries_of(photos):
    return sorted((photos / "test").rglob("*.png"))


def fitted(photos, method="tip-adapter", **options):
    return ImageClassifier("fake", method=method, store=None, **options).fit(photos / "train")


def test_sets_hold_the_true_class_and_say_what_they_rest_on(photos):
    found = fitted(photos).predict_set(queries_of(photos), 0.9, guarantee="full")
    held = [path.parent.name in dict(each.classes) for path, each in zip(queries_of(photos), found.sets, strict=True)]
    assert np.mean(held) >= 0.75
    assert "from all 15 shots, which each photo joins as every class" in found.summary
    assert "drawn like the shots" in found.guarantee
    assert all(each.classes for each in found.sets)


def test_one_shot_per_class_is_enough_where_there_are_many_classes(photos):
    clf = ImageClassifier("fake", method="tip-adapter", store=None).fit(photos / "train", shots=1)
    assert clf.predict_set(queries_of(photos), 0.7, guarantee="full").sets
    with pytest.raises(InputError, match=r"needs at least 9 calibration photos, got 3: .* at most 0\.75"):
        clf.predict_set([], 0.9, guarantee="full")


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("gda", {}, "which gda has to be fitted again for"),
        ("tip-adapter", {"views": 2}, "got means of 2 views"),
    ],
)
def test_who_cannot_have_them_is_told(photos, method, options, words):
    clf = fitted(photos, method, **options)
    with pytest.raises(InputError, match=words):
        clf.predict_set(["nowhere.png"], 0.8, guarantee="full")


def test_groups_kinds_and_words_that_do_not_go_with_it(photos):
    paths = sorted((photos / "train").rglob("*.png"))
    labels = [path.parent.name for path in paths]
    clf = ImageClassifier("fake", method="tip-adapter", store=None)
    clf.fit(paths, labels, groups=[f"{label} {row % 2}" for row, label in enumerate(labels)])
    with pytest.raises(InputError, match="drawn one by one, like the photos to come, got 15 shots, 6 groups"):
        clf.predict_set([], 0.5, guarantee="full")
    with pytest.raises(InputError, match="kind lac with the guarantee full, got 'aps'"):
        clf.predict_set([], 0.5, kind="aps", guarantee="full")
    with pytest.raises(InputError, match="calibrated or full, got 'exact'"):
        clf.predict_set([], 0.5, guarantee="exact")


def test_the_command_line(photos, tmp_path, capsys, monkeypatch):
    fitted(photos).save(tmp_path / "m.tip")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tip-adapter", "predict", *map(str, (tmp_path / "m.tip", *arguments))])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    code, out, _ = run(photos / "test", "--coverage", 0.9, "--guarantee", "full", "--json")
    told = json.loads(out)
    assert code == 0
    assert len(told["sets"]) == 9
    assert "which each photo joins" in told["origin"]
    code, _, err = run(photos / "test", "--guarantee", "full")
    assert code == 3
    assert "Expected --coverage with --guarantee" in err
    code, _, err = run(photos / "test", "--coverage", 0.9, "--guarantee", "full", "-o", tmp_path / "parts")
    assert code == 3
    assert "Expected no --guarantee with" in err
    monkeypatch.setattr("tip_adapter.cli.output._is_terminal", lambda: True)
    named = [run(photos / "test", "--coverage", 0.9, "--guarantee", one)[1] for one in ("calibrated", "full")]
    assert ["next: tip-adapter calibrate" in out for out in named] == [True, False]
