"""A report is one file that asks for nothing, opens photos, and shows odd names as they are; checked in Chromium."""

import importlib.util
import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tip_adapter.data.thumbnails import make_thumbnails
from tip_adapter.methods.heads import softmax
from tip_adapter.methods.selection.cache_search import landscape
from tip_adapter.report import Mistake, PhotoStrip, ReportContent, page, render_doctor, render_report
from tip_adapter.report.charts import coverage_points, landscape_cells, reliability_points
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.conformal import ConformalScores
from tip_adapter.trust.doctor import BadImage, Diagnosis, diagnose
from tip_adapter.trust.duplicates import Photos
from tip_adapter.trust.evaluation import evaluate_probabilities
from tip_adapter.trust.out_of_distribution import Familiarity

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</script><img src=x onerror=alert(1)> & \"'"


def content(n_classes=5, n=60, *, pictures=True, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    logits = 3.0 * np.eye(n_classes)[labels] + 1.5 * rng.normal(size=(n, n_classes))
    features = np.eye(n_classes, dtype=np.float32)[labels]
    calibration = Calibration.of(logits, labels, (features, features, labels), folds=(labels % 2, labels % 2))
    probabilities = softmax(logits / calibration.temperature)
    names = [HOSTILE, *(f"class {number}" for number in range(1, n_classes))]
    photos = [f"folder/{HOSTILE}-{row}.jpg" for row in range(n)]
    image = make_thumbnails([np.full((40, 30, 3), 120, dtype=np.uint8)], 32)[0]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)[:4]
    noisy = features + 0.3 * rng.normal(size=features.shape)
    unit = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    axis = np.geomspace(0.1, 10, 7)
    shots = Photos(unit, labels, tuple(photos), tuple(photos))
    return ReportContent(
        title=f"Report of {HOSTILE}",
        facts={"method": "tip-adapter"},
        evaluation=evaluate_probabilities(probabilities, labels, names, zero_shot=logits, cache=logits),
        probabilities=probabilities,
        labels=labels,
        names=photos,
        thumbnails=dict.fromkeys(range(n), image) if pictures else {},
        raw_probabilities=softmax(logits),
        calibration=calibration,
        landscape=landscape(unit, labels, np.zeros((n, n_classes), dtype=np.float32), alphas=axis, betas=axis),
        chosen=(1.0, 2.0),
        mistakes=[Mistake(int(row), (PhotoStrip("a.jpg", names[0], "+0.70", image),)) for row in wrong],
        diagnosis=diagnose(shots, names, None, 10.0, images=[BadImage("broken.jpg", "cannot be read")]),
    )


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("Chromium and playwright are needed to look at pages")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def opened(browser, path, scheme="light"):
    """Open a page; what it asks for and complains of is kept."""
    tab = browser.new_page(color_scheme=scheme, viewport={"width": 1000, "height": 800})
    tab.asked, tab.complaints = [], []
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.on("console", lambda message: tab.complaints.append(message.text))
    tab.on("dialog", lambda dialog: tab.complaints.append(dialog.message))
    tab.goto(path.as_uri())
    return tab


@pytest.mark.parametrize("n_classes", [2, 200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_works_in_a_browser(browser, tmp_path, n_classes, scheme):
    path = tmp_path / "report.html"
    path.write_text(render_report(content(n_classes, n=max(60, 2 * n_classes))), encoding="utf-8")
    tab = opened(browser, path, scheme)
    assert [url for url in tab.asked if not url.startswith("data:")] == [path.as_uri()]
    assert tab.locator("h1").inner_text() == f"Report of {HOSTILE}"
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(250, 249, 247)" if scheme == "light" else "rgb(20, 23, 26)")
    # No part sticks out to the side.
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.locator("button.link").first.click()
    assert tab.locator("dialog[open] figure img").count() == int(tab.locator("button.link").first.inner_text())
    tab.keyboard.press("Escape")
    assert tab.locator("dialog[open]").count() == 0
    assert tab.complaints == []
    tab.close()


def test_cells_open_with_the_keyboard_and_small_screens_fit(browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render_report(content()), encoding="utf-8")
    tab = opened(browser, path)
    tab.set_viewport_size({"width": 360, "height": 700})
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.locator(".cell").first.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("dialog[open] figure").count() >= 1
    assert tab.complaints == []
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("n_classes", [3, 12, 25])
def test_nothing_is_cut_off_on_a_phone(browser, tmp_path, n_classes, scheme):
    whole = content(n_classes, n=80)
    names = (*whole.evaluation.class_names[:-1], "Tomato___Tomato_Yellow_Leaf_Curl_Virus_of_the_Garden")
    whole = replace(whole, evaluation=replace(whole.evaluation, class_names=names))
    path = tmp_path / "report.html"
    path.write_text(render_report(whole), encoding="utf-8")
    tab = opened(browser, path, scheme)
    tab.set_viewport_size({"width": 400, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert (
        tab.evaluate(
            "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth).length"
        )
        == 0
    )
    outside = """() => [...document.querySelectorAll('svg text, td, p, h2')].filter((part) => {
        const box = part.getBoundingClientRect(), card = part.closest('section')?.getBoundingClientRect();
        return card && box.width > 1 && (box.left < card.left || box.right > card.right + 1);
    }).map((part) => part.textContent)"""
    assert tab.evaluate(outside) == []
    # Each cell says which column it is of.
    assert tab.locator("#classes tbody tr").first.evaluate(
        "(row) => [...row.cells].filter((cell) => cell.dataset.label).every((cell) => "
        "getComputedStyle(cell, '::before').content.includes(cell.dataset.label))"
    )
    tab.close()


def test_classes_can_be_searched(browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render_report(content(40, n=120)), encoding="utf-8")
    tab = opened(browser, path)
    tab.fill("#class-search", "CLASS 17")
    assert tab.locator("#classes tbody tr:visible").count() == 1
    tab.close()


def test_the_page_of_the_doctor(browser, tmp_path):
    path = tmp_path / "doctor.html"
    path.write_text(render_doctor(content().diagnosis, f"Doctor of {HOSTILE}"), encoding="utf-8")
    tab = opened(browser, path, "dark")
    assert tab.asked == [path.as_uri()] or all(url.startswith(("data:", "file:")) for url in tab.asked)
    assert "broken.jpg" in tab.inner_text("main")
    assert tab.complaints == []
    tab.close()


def test_names_are_text_and_never_markup():
    html = render_report(content())
    assert html.count("<script") == 2
    assert "<img src=x" not in html


def test_probabilities_are_rounded_once():
    bare = content(2)
    bare.probabilities[:] = [0.66246, 0.33754]  # 66.2 %, of whose four digits toFixed would make 66.3
    html = render_report(bare)
    assert html.count('"c": "66.2 %"') == len(bare.labels)


def test_the_page_stays_small(monkeypatch):
    whole = render_report(content(n=300))
    monkeypatch.setattr(page, "MAX_PICTURE_BYTES", 20_000)
    part = render_report(content(n=300))
    assert len(part) < len(whole) - 50_000
    assert "300 photos have a picture here, mistakes first" in part


def test_a_report_of_the_least():
    least = content(pictures=False)
    evaluation = evaluate_probabilities(least.probabilities, least.labels, least.evaluation.class_names)
    bare = ReportContent("Least", {}, evaluation, least.probabilities, least.labels, least.names)
    html = render_report(bare)
    assert "Not calibrated." in html
    assert "Zero-shot" not in html
    assert "α and β" not in html


def test_a_healthy_set_is_told_so():
    assert "nothing found" in render_doctor(Diagnosis(4, 2, 0, "gda", (), (), ()), "Doctor")


def test_reliability_points_add_up():
    c = content(n=100)
    points = reliability_points(c.probabilities, c.labels)
    assert sum(point["count"] for point in points) == 100
    assert sum(point["accuracy"] * point["share"] for point in points) == pytest.approx(c.evaluation.accuracy)


def test_coverage_points_leave_out_what_too_few_photos_allow():
    c = content(n=100)
    few = ConformalScores(c.calibration.scores.true[:9], c.calibration.scores.ahead[:9])
    assert [point["wanted"] for point in coverage_points(few, c.probabilities, c.labels)][-1] == 0.9


def test_written_set_sizes_keep_apart_and_clear_of_the_curve(browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(render_report(content(n=300)), encoding="utf-8")
    tab = opened(browser, path)
    boxes = [size.bounding_box() for size in tab.locator("svg .size").all()]
    assert len(boxes) >= 4
    assert all(left["x"] + left["width"] < right["x"] for left, right in itertools.pairwise(boxes))
    dots = [dot.bounding_box() for dot in tab.locator("#h-coverage ~ svg .dot").all()]
    assert all(dot["y"] + dot["height"] < box["y"] for dot in dots for box in boxes)
    tab.close()


def test_the_chosen_pair_lies_on_its_cell():
    c = content()
    drawn = landscape_cells(c.landscape, (float(c.landscape.alphas[2]), float(c.landscape.betas[4])))
    assert drawn["point"] == pytest.approx((4.5 / 7, 2.5 / 7))
    assert max(cell["depth"] for cell in drawn["cells"]) == 1.0
    assert landscape_cells(c.landscape, (0.0, 1e6))["point"] == (None, None)


def test_a_calibration_without_photos_draws_no_curve():
    c = content()
    none = Calibration(
        1.0, "none", 0, 0, False, (np.nan, np.nan), (np.nan, np.nan), ConformalScores(np.zeros(0), np.zeros(0)),
        Familiarity(np.zeros(2), np.ones(2), np.zeros(0)),
    )  # fmt: skip
    html = render_report(ReportContent("t", {}, c.evaluation, c.probabilities, c.labels, c.names, calibration=none))
    assert "Do sets of classes cover" not in html
    assert "Not calibrated: there is one shot per class" in html
