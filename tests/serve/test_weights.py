"""α and β over HTTP: measured on left-out shots, held, chosen again."""

import numpy as np
import pytest

from running_service import running
from serve_files import files
from tip_adapter import ImageClassifier

SHADES = {"night": (30, 40, 110, 120), "day": (220, 210, 140, 130)}


@pytest.fixture
def cache(tmp_path):
    """A classifier whose photos are decided by α and β."""
    shades = [np.full((32, 32, 3), shade, dtype=np.uint8) for name in SHADES for shade in SHADES[name]]
    labels = [name for name, four in SHADES.items() for _ in four]
    ImageClassifier("fake", "tip-adapter", store=None).fit(shades, labels).save(tmp_path / "cache.tip")
    return tmp_path / "cache.tip"


@pytest.fixture
def client(serving, cache):
    return serving({"cache": cache})


def record(folder):
    return ImageClassifier.load(folder, store=None).model_.method


def test_pairs_are_scored_on_left_out_shots(client, cache):
    found = client.get("/v1/model/weights").json()
    held = record(cache).held
    assert (found["alpha"], found["beta"], found["text_weight"]) == (held["alpha"], held["beta"], held["text_weight"])
    assert found["held"] is False
    assert found["automatic"] == pytest.approx({"alpha": held["alpha"], "beta": held["beta"]})
    assert found["alphas"][0] == 0
    assert held["alpha"] in found["alphas"]
    assert held["beta"] in found["betas"]
    shape = (len(found["alphas"]), len(found["betas"]))
    assert np.shape(found["nll"]) == np.shape(found["accuracy"]) == shape
    # Texts alone answer alike, whatever β is.
    assert len(set(found["nll"][0])) == 1
    assert found["edits"] == 0


def test_means_of_views_are_asked_about_as_single_views(serving, tmp_path):
    rng, store = np.random.default_rng(0), tmp_path / "store.db"
    photos = [rng.integers(0, 255, (40, 32, 3), dtype=np.uint8) // (1 + row % 2) for row in range(12)]
    model = ImageClassifier("fake", "tip-adapter", views=3, store=store).fit(photos, ["dark", "light"] * 6)
    model.save(tmp_path / "views.tip")
    found = serving({"views": tmp_path / "views.tip"}, store=store).get("/v1/model/weights").json()
    held = record(tmp_path / "views.tip").held
    assert found["automatic"] == {"alpha": held["alpha"], "beta": held["beta"]}


def test_what_is_held_survives_edits_and_is_taken_back_at_once(client, cache):
    before = record(cache)
    held = client.put("/v1/model/weights", json={"alpha": 0.5, "beta": 3.0}).json()
    assert (held["edits"], held["stale"]) == (1, [])
    weight = before.held["text_weight"]
    assert record(cache).held == {"alpha": 0.5, "beta": 3.0, "text_weight": weight}
    client.post("/v1/shots?class=day&refit=true", files=files(200, 201))
    assert record(cache).held == {"alpha": 0.5, "beta": 3.0, "text_weight": weight}
    told = client.get("/v1/model/weights").json()
    assert (told["alpha"], told["beta"], told["held"]) == (0.5, 3.0, True)
    assert told["automatic"] != {"alpha": 0.5, "beta": 3.0}
    assert 0.5 in told["alphas"]
    client.post("/v1/undo")
    assert client.post("/v1/undo").json()["undone"]["action"] == "refit"
    assert record(cache).held == before.held
    assert record(cache).parameters["alpha"] == "auto"


def test_with_beta_0_all_photos_count_alike(client):
    client.put("/v1/model/weights", json={"alpha": 1, "beta": 0})
    found = client.get("/v1/model/weights").json()
    assert found["betas"][0] == 0
    assert all(None not in row for row in found["nll"])


def test_the_shots_choose_again(client, cache):
    before = record(cache)
    client.put("/v1/model/weights", json={"alpha": 0.5, "beta": 3.0})
    assert client.delete("/v1/model/weights").json()["edits"] == 2
    assert (record(cache).held, record(cache).parameters["text_weight"]) == (before.held, "auto")
    client.post("/v1/undo")
    assert record(cache).held["alpha"] == 0.5


def test_without_weight_the_photos_count_nothing(client, cache):
    client.put("/v1/model/weights", json={"alpha": 0, "beta": 5.5})
    found = client.get("/v1/model/weights").json()
    assert (found["alpha"], found["alphas"].count(0)) == (0, 1)
    assert client.post("/v1/predict", files=files(30)).status_code == 200
    model = ImageClassifier.load(cache, store=None).model_
    features = model.shots.features.unit
    weight = model.method.held["text_weight"] * model.encoder.logit_scale
    np.testing.assert_allclose(model.logits(features), weight * features @ model.zero_shot_weights.T, rtol=1e-4)


def test_of_one_photo_each_nothing_is_known(serving, tmp_path):
    shades = [np.full((32, 32, 3), shade, dtype=np.uint8) for shade in (30, 220)]
    ImageClassifier("fake", "tip-adapter", store=None).fit(shades, ["night", "day"]).save(tmp_path / "one.tip")
    client = serving({"one": tmp_path / "one.tip"})
    found = client.get("/v1/model/weights").json()
    assert (found["accuracy"], found["nll"]) == (None, None)
    assert found["alpha"] in found["alphas"]
    assert client.put("/v1/model/weights", json={"alpha": 2, "beta": 2}).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": -1, "beta": 1},
        {"alpha": 1},
        {"alpha": 1e9, "beta": 1},
        {"alpha": "1", "beta": 1},
        {"alpha": True, "beta": 1},
    ],
)
def test_weights_are_numbers_from_0_on(client, wrong):
    assert client.put("/v1/model/weights", json=wrong).status_code == 422
    assert client.put("/v1/model/weights", content='{"alpha": NaN, "beta": 1}').status_code == 422
    broken = client.put("/v1/model/weights", content="{", headers={"content-type": "application/json"})
    assert broken.json()["detail"] == "the request: JSON decode error"
    assert client.get("/v1/model").json()["edits"] == 0


def test_other_methods_have_no_such_weights(serving, folder, tmp_path):
    client = serving({"light": folder})
    for answer in (client.get("/v1/model/weights"), client.put("/v1/model/weights", json={"alpha": 1, "beta": 1})):
        assert answer.status_code == 409
        assert answer.json()["detail"] == "α and β are those of tip-adapter, and this classifier's method is auto"
    untaught = serving({"new": tmp_path / "new.tip"}, teaching=True, encoder="fake")
    assert untaught.get("/v1/model/weights").status_code == 409


def test_who_may_not_edit_holds_nothing(serving, cache):
    client = serving({"cache": cache}, editing=False)
    assert client.get("/v1/model/weights").status_code == 200
    assert client.put("/v1/model/weights", json={"alpha": 1, "beta": 1}).status_code == 403
    assert client.delete("/v1/model/weights").status_code == 403


def test_who_began_before_goes_on_with_what_is_held(cache):
    with ImageClassifier.editing(cache, store=None) as mine:
        with ImageClassifier.editing(cache, store=None) as other:
            other.refit({"alpha": 0.5})
        mine.rename_class("night", "dark")
    assert record(cache).held["alpha"] == 0.5


def test_weights_in_the_page(page, axe, cache):
    from playwright.sync_api import expect

    with running({"cache": cache}, teaching=True) as address:
        page.goto(f"http://{address}")
        expect(page.locator("#weights-body")).to_be_hidden()
        page.locator("#weights summary").wait_for()
        page.locator("#weights summary").press("Enter")
        told, ring = page.locator("#weights-told"), page.locator("#weights-map .wanted")
        expect(told).to_contain_text("chosen by the photos", timeout=20_000)
        expect(page.get_by_role("img", name="the texts alone")).to_be_visible()
        first = ring.get_attribute("transform")
        page.get_by_label("α, weight of the photos").press("Home")
        expect(page.locator("#alpha")).to_have_attribute("aria-valuetext", "0")
        assert ring.get_attribute("transform") != first
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert axe(page) == []
        page.click("text=Hold these")
        expect(told).to_contain_text("held: α 0", timeout=20_000)
        assert record(cache).held["alpha"] == 0
        page.reload()
        page.locator("#weights summary").click()
        expect(told).to_contain_text("held: α 0", timeout=20_000)
        page.click("text=Let the photos choose")
        expect(told).to_contain_text("chosen by the photos", timeout=20_000)
        page.click("#undo")
        expect(told).to_contain_text("held: α 0", timeout=20_000)
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.wrong == []
    assert record(cache).parameters["alpha"] == 0
