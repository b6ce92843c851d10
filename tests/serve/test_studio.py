"""The studio in a browser: from nothing to a classifier, corrections, undo, a webcam, and what it asks for."""

import re

from serve_files import files, pictures
from tip_adapter import ImageClassifier
from tip_adapter.storage.bundle_archives import unpack_bundle
from tip_adapter.storage.bundles import load_bundle


def shots(page, count):
    from playwright.sync_api import expect

    expect(page.locator("button.shot")).to_have_count(count, timeout=30_000)


def test_from_an_empty_page_to_corrections(page, address, tmp_path):
    from playwright.sync_api import expect

    page.goto(address)
    for name, base in (("night", 30), ("<b>day</b>", 220)):
        page.fill("#new-name", name)
        page.click("text=Add class")
        page.set_input_files(f'[aria-label="Photos of {name}"]', pictures(tmp_path, f"shade {base}", base))
    shots(page, 10)
    expect(page.locator("#facts")).to_contain_text("10 photos")
    # Of a photo between the two, every edit is seen in the answer.
    page.set_input_files("#try-files", pictures(tmp_path, "dusk", 125, 2))
    card = page.locator(".answer-card").first
    page.locator(".answer-card").nth(1).locator("select").select_option("night")
    card.locator("select").select_option("night")
    card.locator("text=Teach it").click()
    shots(page, 11)
    expect(card.locator("h3")).to_have_text(re.compile("^night now right"))
    expect(page.locator("#pinned")).to_have_text(re.compile(r"1 of 1 .*before the edit: 0 of 1"))
    card.locator("text=Why?").click()
    expect(card.locator(".reasons li").first).to_contain_text("without it")
    page.click("#undo")
    shots(page, 10)
    # A range is moved by a key, and comes back as one.
    page.locator(".shot").nth(0).click()
    page.locator(".shot").nth(2).click(modifiers=["Shift"])
    page.keyboard.press("2")
    # Reasons that were asked for follow the edit.
    with page.expect_response(lambda answer: "evidence=" in answer.url and answer.ok):
        expect(page.locator('[aria-label="Class night"] .shot')).to_have_count(8, timeout=20_000)
    page.click("#undo")
    expect(page.locator('[aria-label="Class night"] .shot')).to_have_count(5, timeout=20_000)
    # A burst is one group.
    page.click('[aria-label="Webcam for night"]')
    page.locator("#video").evaluate(
        "video => new Promise(done => video.onloadeddata = video.videoWidth ? done() : done)"
    )
    page.click("#shoot")
    page.locator("button.shot").nth(11).wait_for(timeout=30_000)
    expect(page.locator("#facts")).to_contain_text("11 groups")
    # Every class says whether there are enough photos; those to look at are marked, and chosen from the list.
    expect(page.locator(".verdict .tag")).to_have_count(2, timeout=20_000)
    expect(page.locator("#enough-all")).to_contain_text("one more photo of each class")
    page.locator("#enough-hints summary").click()
    expect(page.locator(".badge").first).to_be_visible()
    page.locator("#enough-hints button").first.click()
    expect(page.locator("#selected")).to_have_text("1 selected")
    # Pinned photos are there again, until they are forgotten.
    page.reload()
    page.locator("button.shot").nth(11).wait_for(timeout=30_000)
    expect(page.locator(".answer-card select")).to_have_value("night")
    expect(page.locator("#pinned")).to_contain_text("of 1 pinned photos")
    page.click("text=Forget them")
    expect(page.locator(".answer-card")).to_have_count(0)
    page.reload()
    page.locator("button.shot").nth(11).wait_for(timeout=30_000)
    expect(page.locator("#pinned-line")).to_be_hidden()
    page.click("text=Export")
    with page.expect_download() as download:
        page.click("text=The classifier")
    assert download.value.suggested_filename == "shades.tip.zip"
    unpack_bundle(download.value.path(), tmp_path / "again.tip", load_bundle)
    assert page.wrong == []
    assert page.asked == {address.removeprefix("http://")}
    model = ImageClassifier.load(tmp_path / "shades.tip", store=None).model_
    assert model.class_names == ("<b>day</b>", "night")
    assert model.shots.n_groups == 11


def test_what_cannot_be_read_does_not_stay_in_the_way(page, address, tmp_path):
    from playwright.sync_api import expect

    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.goto(address)
    for name, photos in (("night", pictures(tmp_path, "n", 30, 2)), ("day", [tmp_path / "broken.png"])):
        page.fill("#new-name", name)
        page.click("text=Add class")
        page.set_input_files(f'[aria-label="Photos of {name}"]', photos)
    expect(page.locator("#message")).to_contain_text("readable photo of every class", timeout=20_000)
    page.set_input_files('[aria-label="Photos of day"]', pictures(tmp_path, "d", 220, 2))
    shots(page, 4)
    page.set_input_files("#try-files", [tmp_path / "broken.png"])
    expect(page.locator("#message")).to_contain_text("broken.png")
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException()); }")
    page.click('[aria-label="Webcam for day"]')
    expect(page.locator("#message")).to_contain_text("The camera was refused")
    expect(page.locator("#webcam")).to_be_hidden()
    page.set_input_files("#try-files", pictures(tmp_path, "t", 40, 1))
    expect(page.locator(".answer-card h3")).to_have_text("night")


def test_more_photos_than_a_request_holds(page, address, tmp_path):
    """A drop of 203 photos goes in two requests, the first of which makes the classifier."""
    from playwright.sync_api import expect

    page.goto(address)
    for name, base, count in (("night", 30, 201), ("day", 220, 2)):
        page.fill("#new-name", name)
        page.click("text=Add class")
        page.set_input_files(f'[aria-label="Photos of {name}"]', pictures(tmp_path, f"{name}", base, count))
    expect(page.locator("#facts")).to_contain_text("203 photos", timeout=60_000)
    # What is not looked at is not drawn.
    column = page.locator('[aria-label="Class night"]')
    expect(column.locator("button.shot")).to_have_count(30)
    column.locator(".shots").evaluate("one => one.scrollTo(0, one.scrollHeight)")
    expect(column.locator("button.shot")).to_have_count(60)
    column.locator("text=All").click()
    expect(page.locator("#selected")).to_have_text("201 selected")


def test_a_classifier_is_taught_once_over_http(serving, tmp_path):
    client = serving({"new": tmp_path / "new.tip"}, teaching=True, encoder="fake")
    assert client.get("/v1/models").json()["models"] == [{"name": "new", "classes": 0, "shots": 0}]
    assert client.get("/v1/model").status_code == 409
    assert client.post("/v1/predict", files=files(30)).status_code == 409
    assert client.post("/v1/shots?class=day", files=files(30)).status_code == 409
    wrong = client.post("/v1/fit", files=files(30, 220), data={"classes": '["night"]'})
    assert wrong.status_code == 422
    assert wrong.json()["detail"] == "Expected classes as a JSON list of 2 names"
    one = client.post("/v1/fit", files=files(30, 31), data={"classes": '["night", "night"]'})
    assert "at least 2 classes" in one.json()["detail"]
    given = {"classes": '["night", "night", "day"]', "groups": '["a", "a", ""]'}
    taught = client.post("/v1/fit", files=files(30, 31, 220), data=given).json()
    assert (taught["shots"], taught["groups"]) == (3, 2)
    assert client.post("/v1/fit", files=files(30, 220), data={"classes": '["a", "b"]'}).status_code == 409
    added = client.post("/v1/shots?class=day&group=burst&refit=true", files=files(200, 201, 202)).json()
    assert (added["shots"], added["groups"], added["stale"]) == (6, 3, [])


def test_the_page_is_for_who_has_the_token(serving, folder):
    client = serving({"light": folder}, teaching=True, token="s3cret")
    assert client.get("/").status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    assert client.get("/v1/model?token=s3cret").status_code == 401
    client.cookies.clear()
    answer = client.get("/?token=s3cret", follow_redirects=False)
    assert answer.status_code == 303
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=strict" in answer.headers["set-cookie"]
    assert client.get("/studio/studio.js").status_code == 200
    assert client.get("/studio/..%2F..%2Fpyproject.toml").status_code == 404


def test_without_the_studio_there_is_no_page(client):
    assert client.get("/").status_code == 404
    assert client.post("/v1/fit", files=files(1)).status_code == 404


def test_what_edits_made_stale_settles_as_part_of_the_last(serving, folder):
    client = serving({"light": folder}, teaching=True)
    edited = client.post("/v1/shots?class=day", files=files(240)).json()
    assert (edited["stale"], edited["left_out"]) == (["hyper-parameters", "calibration"], None)
    settled = client.post("/v1/settle").json()
    assert (settled["stale"], settled["edits"]) == ([], 1)
    assert settled["left_out"]["n"] == 9
    assert client.post("/v1/undo").json()["undone"]["action"] == "add"
    assert client.get("/v1/model").json()["stale"] == []


def test_whether_there_are_enough_is_measured_once_for_every_state(serving, folder, monkeypatch):
    measured, enough = [], ImageClassifier.enough
    monkeypatch.setattr(ImageClassifier, "enough", lambda self: measured.append(self) or enough(self))
    client = serving({"light": folder})
    first = client.get("/v1/model/enough").json()
    assert (first["photos"], first["groups"], first["edits"]) == (8, 8, 0)
    assert [(one["name"], one["asked"]) for one in first["classes"]] == [("day", 4), ("night", 4)]
    assert client.get("/v1/model/enough").json() == first
    assert len(measured) == 1
    shots = {shot["id"] for shot in client.get("/v1/shots").json()["shots"]}
    assert {hint["shot"] for hint in first["hints"]} <= shots
    client.post("/v1/shots?class=day&group=burst", files=files(200, 201, 202))
    again = client.get("/v1/model/enough").json()
    assert (again["photos"], again["groups"], again["edits"]) == (11, 9, 1)


def test_before_anything_is_taught_nothing_is_enough(serving, tmp_path):
    client = serving({"new": tmp_path / "new.tip"}, teaching=True, encoder="fake")
    assert client.get("/v1/model/enough").status_code == 409


def test_words_are_measured_before_they_are_saved(serving, folder):
    client = serving({"light": folder}, teaching=True)
    model = ImageClassifier.load(folder, store=None).model_
    right = (model.shots.features.unit @ model.zero_shot_weights.T).argmax(axis=1) == model.shots.labels
    tried = client.post("/v1/words", json={"class": "day", "texts": ["bright day", "noon"]}).json()
    assert tried["texts"] == ["day"]
    assert tried["before"]["accuracy"] == right.mean()
    assert client.get("/v1/model").json()["edits"] == 0
    client.patch("/v1/classes", json={"class": "day", "texts": ["bright day", "noon"]})
    again = client.post("/v1/words", json={"class": "day", "texts": []}).json()
    assert (again["texts"], again["before"]) == (["bright day", "noon"], tried["after"])
    assert again["after"]["class_right"] == 0
    assert client.post("/v1/words", json={"class": "dusk", "texts": []}).status_code == 422


def test_a_background_is_known_by_its_photos_alone(serving, folder, tmp_path):
    client = serving({"light": folder}, teaching=True)
    given = "class=background&new_class=true&wordless=true"
    assert client.post(f"/v1/shots?{given}", files=files(120, 121)).json()["classes"]["background"] == 2
    assert client.get("/v1/model").json()["classes"][2] == {"class": "background", "shots": 2, "texts": []}
    assert client.post("/v1/undo").json()["undone"]["action"] == "add-class"
    other = serving({"new": tmp_path / "new.tip"}, teaching=True, encoder="fake")
    first = other.post("/v1/fit", files=files(30, 220), data={"classes": '["night", "background"]'}).json()
    assert {one["class"]: one["texts"] for one in first["classes"]} == {"background": [], "night": ["night"]}


def test_words_in_the_page(page, address, tmp_path):
    from playwright.sync_api import expect

    page.goto(address)
    for name, base in (("night", 30), ("day", 220)):
        page.fill("#new-name", name)
        page.click("text=Add class")
        page.set_input_files(f'[aria-label="Photos of {name}"]', pictures(tmp_path, name, base, 2))
    shots(page, 4)
    page.click('[aria-label="Words for night"]')
    expect(page.locator("#words-field")).to_have_value("night")
    page.fill("#words-field", "dark night\nmidnight")
    expect(page.locator("#words-effect")).to_contain_text("The texts alone name")
    page.click("#save-words")
    expect(page.locator("#undo")).to_be_enabled()
    page.click('[aria-label="Words for night"]')
    expect(page.locator("#words-field")).to_have_value("dark night\nmidnight")
    assert page.wrong == []


def test_shares_are_rounded_as_in_the_terminal(page, address):
    page.goto(address)
    shares = [of / n for n in (8, 40, 80, 200, 97) for of in range(-3, n + 1)]
    script = (
        "shares => import('/studio/figures.js').then((m) => shares.map((one) => [m.percent(one, 1), m.percent(one)]))"
    )
    for share, (fine, coarse) in zip(shares, page.evaluate(script, shares), strict=True):
        assert float(fine.removesuffix(" %").replace("−", "-")) == float(f"{100 * share:.1f}")
        assert float(coarse.removesuffix(" %").replace("−", "-")) == float(f"{100 * share:.0f}")
