"""The studio for everybody: axe-core finds nothing to complain about, and nothing is cut off on a small phone."""

import pytest

from serve_files import pictures


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(page, address, axe, tmp_path, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(address)
    assert axe(page) == []
    teach(page, tmp_path)
    page.locator(".answer-card >> text=Why?").click()
    page.locator(".reasons li").first.wait_for()
    page.locator("#enough-hints summary").click()
    page.locator("button.shot").first.click()
    page.click("text=Export")
    assert axe(page) == []
    page.click("text=Export")
    page.click('[aria-label="Webcam for night"]')
    assert axe(page) == []


def test_nothing_is_cut_off_on_a_small_phone_nor_moves_for_who_wants_it_still(page, address, tmp_path):
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(reduced_motion="reduce")
    page.goto(address)
    teach(page, tmp_path)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    moving = "[...document.querySelectorAll('*')].filter(one => parseFloat(getComputedStyle(one).transitionDuration))"
    assert page.evaluate(f"{moving}.length") == 0
    page.click("text=Export")
    box = page.locator("#export ul").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def teach(page, folder):
    for name, base in (("night", 30), ("day", 220)):
        page.fill("#new-name", name)
        page.click("text=Add class")
        page.set_input_files(f'[aria-label="Photos of {name}"]', pictures(folder, name, base, 3))
    page.locator("button.shot").nth(5).wait_for(timeout=30_000)
    page.set_input_files("#next-files", pictures(folder, "dawn", 140, 2))
    page.set_input_files("#try-files", pictures(folder, "dusk", 120, 1))
    page.locator("#next-queue li").wait_for(timeout=30_000)
    page.locator(".answer-card").wait_for(timeout=30_000)
    page.locator(".verdict .tag").nth(1).wait_for(timeout=30_000)
