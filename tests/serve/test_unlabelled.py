"""Photos without labels over HTTP: ranked as `tip-adapter next` ranks them, labelled, passed over, kept of requests."""

import base64
import errno
import hashlib
import sqlite3
import zipfile
from collections import Counter

import numpy as np
import pytest

from serve_files import files, photo, pictures, png
from tip_adapter import ImageClassifier
from tip_adapter.errors import TipAdapterError
from tip_adapter.serve.kept_requests import KeptRequests


@pytest.fixture
def dusk(tmp_path):
    """Paths of photos between the classes, some of them near-copies."""
    (tmp_path / "dusk").mkdir()
    return [path for base in (90, 125, 160) for path in pictures(tmp_path / "dusk", f"shade {base}", base, 3)]


@pytest.fixture
def queue(serving, folder, dusk):
    """A client of a service that knows the folder, once all of it is read."""
    client = serving({"light": folder}, unlabelled=tuple(dusk))
    client.dusk = dusk
    settle(client)
    return client


def settle(client):
    client.app.state.models[None].unlabelled.reading.join()


def waiting(client, **asked):
    return client.get("/v1/unlabelled", params=asked).json()


def test_the_ranking_is_that_of_the_command(queue, folder):
    found = waiting(queue, limit=3)
    expected = ImageClassifier.load(folder, store=None).next_to_label(queue.dusk, count=3)
    assert (found["total"], found["unread"], found["unreadable"]) == (9, 0, 0)
    assert [one["name"] for one in found["photos"]] == [one.path.rpartition("/")[2] for one in expected]
    assert [one["top"][0]["class"] for one in found["photos"]] == [one.top[0][0] for one in expected]
    assert len(waiting(queue, limit=1, top_k=1)["photos"][0]["top"]) == 1


def test_a_label_makes_a_shot_and_undo_lets_the_photo_wait_again(queue):
    first = waiting(queue)["photos"][0]
    assert queue.get(f"/v1/unlabelled/{first['id']}/picture").content[6:10] == b"JFIF"
    assert queue.post(f"/v1/unlabelled/{first['id']}/label?class=dawn").status_code == 422
    labelled = queue.post(f"/v1/unlabelled/{first['id']}/label?class=day").json()
    assert (labelled["ids"], labelled["shots"], labelled["edits"]) == ([first["id"][:12]], 9, 1)
    assert waiting(queue)["total"] == 8
    assert queue.post("/v1/undo").json()["shots"] == 8
    assert waiting(queue)["total"] == 9
    assert queue.delete(f"/v1/unlabelled/{first['id']}").json() == {"id": first["id"]}
    assert waiting(queue)["total"] == 8
    for method, path in (("POST", "/label?class=day"), ("GET", "/picture"), ("DELETE", "")):
        assert queue.request(method, f"/v1/unlabelled/{first['id']}{path}").status_code == 404


def test_what_was_forgotten_does_not_come_back(queue):
    first = waiting(queue)["photos"][0]["id"]
    shot = queue.post(f"/v1/unlabelled/{first}/label?class=day").json()["ids"][0]
    queue.delete(f"/v1/shots?id={shot}&forget=true")
    assert waiting(queue)["total"] == 8


def test_photos_that_are_gone_wait_no_longer(queue, dusk):
    ids = {one["name"]: one["id"] for one in waiting(queue, limit=100)["photos"]}
    gone, changed = dusk[0], dusk[1]
    gone.unlink()
    changed.write_bytes(photo(1))
    for path in (gone, changed):
        answer = queue.post(f"/v1/unlabelled/{ids[path.name]}/label?class=day")
        assert answer.status_code == 410
        assert str(path.parent) not in answer.text
    assert waiting(queue)["total"] == 7


def test_photos_that_clients_send(serving, folder, dusk):
    client = serving({"light": folder}, teaching=True, max_unlabelled=3)
    broken = ("files", ("broken.png", b"no picture", "image/png"))
    sent = client.post("/v1/unlabelled", files=[*files(100, 120), broken]).json()
    assert [one["name"] for one in sent["errors"]] == ["broken.png"]
    assert client.post("/v1/unlabelled", files=[broken]).status_code == 422
    again = client.post("/v1/unlabelled", files=files(100)).json()
    assert (again["ids"], again["already_there"]) == ([], [{"name": "100.png", "id": sent["ids"][0]}])
    assert client.post("/v1/unlabelled", files=files(101, 102)).status_code == 413
    assert {one["name"] for one in waiting(client)["photos"]} == {"100.png", "120.png", "101.png"}
    assert client.post(f"/v1/unlabelled/{sent['ids'][1]}/label?class=day").json()["shots"] == 9


def test_bytes_that_clients_send_are_bounded_and_a_full_disk_is_told(serving, folder, monkeypatch):
    client = serving({"light": folder}, teaching=True, sent_bytes=len(photo(100)) + 1)
    assert client.post("/v1/unlabelled", files=files(100)).status_code == 200
    assert client.post("/v1/unlabelled", files=files(101)).status_code == 413

    def full(*place, connect=sqlite3.connect, **given):
        file = connect(*place, **given)
        file.execute("PRAGMA max_page_count=4")
        return file

    other = serving({"light": folder}, teaching=True)
    monkeypatch.setattr("tip_adapter.serve.sent_photos.sqlite3.connect", full)
    large = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert other.post("/v1/unlabelled", files=[("files", ("a.png", png(large), "image/png"))]).status_code == 507
    assert waiting(other)["total"] == 0


def test_a_skipped_photo_is_brought_back(queue):
    first = waiting(queue)["photos"][0]["id"]
    assert queue.post(f"/v1/unlabelled/{first}/restore").status_code == 404
    queue.delete(f"/v1/unlabelled/{first}")
    assert waiting(queue)["total"] == 8
    assert queue.post(f"/v1/unlabelled/{first}/restore").json() == {"id": first}
    assert waiting(queue)["total"] == 9
    assert queue.post(f"/v1/unlabelled/{first}/label?class=day").status_code == 200


@pytest.mark.parametrize("done", ["skipped", "labelled"])
def test_photos_that_are_done_make_room_for_others(serving, folder, monkeypatch, done):
    monkeypatch.setattr("tip_adapter.serve.unlabelled.COME_BACK", 1)
    client = serving({"light": folder}, teaching=True, sent_bytes=2 * len(photo(100)))
    ids = client.post("/v1/unlabelled", files=files(100, 120)).json()["ids"]
    for one in ids:
        if done == "skipped":
            client.delete(f"/v1/unlabelled/{one}")
        else:
            client.post(f"/v1/unlabelled/{one}/label?class=day")
            waiting(client)
    # The last one can come back, the one before is gone for good.
    assert client.post("/v1/unlabelled", files=files(130)).status_code == 200
    assert client.post("/v1/unlabelled", files=files(140)).status_code == 413
    if done == "skipped":
        assert client.post(f"/v1/unlabelled/{ids[0]}/restore").status_code == 404
        assert client.post(f"/v1/unlabelled/{ids[1]}/restore").status_code == 200
    else:
        client.post("/v1/undo")
        client.post("/v1/undo")
    assert {one["name"] for one in waiting(client)["photos"]} == {"120.png", "130.png"}
    assert client.get(f"/v1/unlabelled/{ids[1]}/picture").status_code == 200


def test_nothing_waits_where_that_was_not_asked(client, serving, folder, dusk):
    assert client.get("/v1/unlabelled").status_code == 404
    assert client.post("/v1/unlabelled", files=files(100)).status_code == 404
    reading = serving({"light": folder}, unlabelled=tuple(dusk), editing=False)
    settle(reading)
    one = waiting(reading)["photos"][0]["id"]
    assert reading.post("/v1/unlabelled", files=files(100)).status_code == 403
    assert reading.post(f"/v1/unlabelled/{one}/label?class=day").status_code == 403
    assert reading.delete(f"/v1/unlabelled/{one}").status_code == 403


def test_of_too_many_photos_some_are_drawn_and_bad_ones_are_counted(serving, folder, dusk, caplog):
    dusk[4].write_bytes(b"no picture")
    client = serving({"light": folder}, unlabelled=tuple(dusk))
    settle(client)
    assert (waiting(client)["total"], waiting(client)["unreadable"]) == (8, 1)
    fewer = serving({"light": folder}, unlabelled=tuple(dusk[:4]), max_unlabelled=2)
    settle(fewer)
    assert waiting(fewer)["total"] == 2
    bad = serving({"light": folder}, unlabelled=(dusk[4],))
    settle(bad)
    assert (waiting(bad)["total"], waiting(bad)["unreadable"]) == (0, 1)
    assert "1 unlabelled photos cannot be read" in caplog.text


DROP = """data => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(data), letter => letter.charCodeAt(0))], "classes.zip"));
  document.getElementById("new-class").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
}"""


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in members.items():
            archive.write(file, name)
    return path


def test_keys_label_and_skip_in_the_page(page, address, tmp_path):
    from playwright.sync_api import expect

    page.goto(address)
    shades = {"night": 30, "day": 220}
    classes = {f"x/{name}/{path.name}": path for name in shades for path in pictures(tmp_path, name, shades[name], 2)}
    page.evaluate(DROP, base64.b64encode(zipped(tmp_path / "classes.zip", classes).read_bytes()).decode())
    expect(page.locator("button.shot")).to_have_count(4, timeout=30_000)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    inside = {f"../{path.name}": path for path in pictures(tmp_path, "dim", 80, 2)}
    inside |= {"__MACOSX/._dim 1.png": tmp_path / "broken.png", "notes.txt": tmp_path / "broken.png"}
    given = [*pictures(tmp_path, "dusk", 125, 2), zipped(tmp_path / "dim.zip", inside), tmp_path / "broken.png"]
    page.set_input_files("#next-files", given)
    status, photo = page.locator("#next-status"), page.locator("#next-photo")
    expect(status).to_have_text("4 photos without a class", timeout=30_000)
    expect(page.locator("#message")).to_contain_text("broken.png")
    expect(page.locator("#next-queue li")).to_have_count(3)
    first = photo.get_attribute("alt")
    photo.evaluate("one => one.decode()")
    page.keyboard.press("1")
    expect(status).to_have_text(f"{first.removeprefix('Photo ')} is day · 3 photos without a class")
    expect(page.locator('[aria-label="Class day"] .shot')).to_have_count(3)
    expect(photo).not_to_have_attribute("alt", first)
    page.click("#undo")
    expect(status).to_contain_text("4 photos without a class")
    expect(page.locator("button.shot")).to_have_count(4)
    # Selected photos are moved; what is asked about is not labelled with them.
    page.locator(".shot").first.click()
    page.keyboard.press("2")
    expect(page.locator('[aria-label="Class night"] .shot')).to_have_count(3)
    expect(status).to_contain_text("4 photos without a class")
    for back in (lambda: page.click("#next-back"), lambda: page.keyboard.press("Control+z"), None):
        skipped = photo.get_attribute("alt")
        photo.evaluate("one => one.decode()")
        page.keyboard.press("0")
        expect(status).to_contain_text("was skipped · 3 photos without a class")
        if back:
            back()
            expect(status).to_contain_text("waits again · 4 photos without a class")
            expect(photo).to_have_attribute("alt", skipped)
    # What the service could not skip waits still, and is not among what can be brought back.
    page.click("#next-back")
    refused = "**/v1/unlabelled/*"
    page.route(refused, lambda route: route.abort() if route.request.method == "DELETE" else route.continue_())
    page.click("#next-skip")
    expect(page.locator("#next-back")).to_be_hidden()
    expect(status).to_contain_text("4 photos without a class")
    page.unroute(refused)
    assert [words.split(":")[0] for words in page.wrong] == ["Failed to load resource"]
    page.wrong.clear()
    page.click("#next-skip")
    expect(status).to_contain_text("was skipped · 3 photos without a class")
    page.locator("#next-classes").get_by_role("button", name="night").click()
    expect(page.locator("button.shot")).to_have_count(5)
    expect(status).to_contain_text("is night · 2 photos without a class")
    # What an archive says of itself is not believed.
    path = zipped(tmp_path / "bomb.zip", {"a.png": tmp_path / "dim.zip"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 24] ^= 1
    path.write_bytes(data)
    for file, why in ((path, "a.png is damaged"), (tmp_path / "broken.zip", "it is no ZIP file")):
        file.exists() or file.write_bytes(b"no archive")
        page.set_input_files("#next-files", file)
        expect(page.locator("#message")).to_contain_text(f"{file.name} cannot be read: {why}")
    assert page.wrong == []


@pytest.fixture
def keeping(serving, folder, tmp_path):
    """A client of a service that keeps photos of requests."""
    return lambda **bounds: serving({"light": folder}, keep_requests=tmp_path / "kept", **bounds)


def kept(tmp_path):
    return sorted(path.relative_to(tmp_path / "kept" / "light") for path in (tmp_path / "kept" / "light").glob("*/*.*"))


def test_requests_are_kept_where_that_was_asked(keeping, tmp_path):
    client = keeping()
    assert client.post("/v1/predict", files=files(20, 25)).status_code == 200
    client.post("/v1/predict", files=files(124))
    found = waiting(client)["photos"]
    digest = hashlib.sha256(photo(124)).hexdigest()
    assert digest in {one["id"] for one in found}
    assert (tmp_path / "kept/light/uncertain" / f"{digest}.png").read_bytes() == photo(124)
    assert (tmp_path / "kept/light/uncertain").stat().st_mode & 0o077 == 0
    assert 'tip_adapter_kept_photos_total{reason="uncertain"}' in client.get("/metrics").text
    # The same photo again, a shot, and what cannot be read are not.
    before = kept(tmp_path)
    client.post("/v1/predict", files=[*files(124, 30), ("files", ("a.png", b"no picture", "image/png"))])
    assert kept(tmp_path) == before
    assert client.post(f"/v1/unlabelled/{digest}/label?class=day").json()["shots"] == 9
    for one in found:
        if one["id"] != digest:
            client.delete(f"/v1/unlabelled/{one['id']}")
    assert [path.stem for path in kept(tmp_path)] == [digest]
    # What was skipped can come back, though its file is gone.
    other = next(one["id"] for one in found if one["id"] != digest)
    client.post(f"/v1/unlabelled/{other}/restore")
    assert client.get(f"/v1/unlabelled/{other}/picture").status_code == 200
    # Forgetting leaves nothing of a photo.
    client.delete(f"/v1/shots?id={digest[:12]}&forget=true")
    assert kept(tmp_path) == []


def test_kept_requests_outlive_the_service(keeping, tmp_path):
    client = keeping()
    client.post("/v1/predict", files=files(124))
    client.post("/v1/predict", files=files(125))
    (path,) = [path for path in kept(tmp_path) if path.stem == hashlib.sha256(photo(124)).hexdigest()]
    with pytest.raises(TipAdapterError, match="Another process is changing"):
        keeping()
    client.__exit__(None, None, None)
    left = tmp_path / "kept/light" / path.with_name(f".{path.name}.tmp-012345")
    left.write_bytes(b"half of a pho")
    again = keeping()
    settle(again)
    assert path.stem in {one["id"] for one in waiting(again)["photos"]}
    assert again.get(f"/v1/unlabelled/{path.stem}/picture").status_code == 200
    assert not left.exists()
    client.__enter__()


def test_what_is_kept_is_bounded_and_a_full_disk_fails_no_request(keeping, tmp_path, monkeypatch, caplog):
    store = KeptRequests(tmp_path / "some", 4, 100)
    for number, reason in enumerate(["uncertain"] * 3 + ["rare", "random", "rare"]):
        store.keep(f"{number:064x}", bytes(20), reason)
    assert [int(digest, 16) for digest, _ in store] == [2, 3, 5, 4]
    assert store.keep("f" * 64, bytes(101), "rare") is None
    store.keep(f"{6:064x}", bytes(60), "random")
    assert sum(len(path.read_bytes()) for _, path in store) == 100
    client = keeping()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tip_adapter.storage.atomic.replace_file", full)
    assert client.post("/v1/predict", files=files(124)).status_code == 200
    assert waiting(client)["total"] == 0
    assert 'tip_adapter_kept_photos_total{reason="failed"} 1.0' in client.get("/metrics").text
    assert caplog.text.count("Photos of requests are not kept") == 1


def test_why_a_photo_is_kept(tmp_path):
    store = KeptRequests(tmp_path, 10, 1000)
    rng = np.random.default_rng(0)

    def sure(column, by):
        row = np.full(3, (1 - by) / 3)
        row[column] += by
        return store.reason(row)

    found = Counter(sure(int(rng.random() < 0.4), by) for by in rng.uniform(0.3, 1.0, size=2000))
    # A tenth is less certain than nine tenths of the others, and one in a hundred is drawn.
    assert 150 < found["uncertain"] < 260
    assert 5 < found["random"] < 40
    assert found["rare"] == 0
    assert sure(2, 0.99) == "rare"
    assert sure(2, 0.01) == "uncertain"
