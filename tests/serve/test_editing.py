"""Edits over HTTP: on the disk before they are acknowledged, and seen whoever makes them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from serve_files import files, photo
from tip_adapter import ImageClassifier


def on_disk(folder):
    return ImageClassifier.load(folder, store=None).model_


def test_a_shot_is_added_relabelled_removed_and_taken_back(client, folder):
    added = client.post("/v1/shots?class=day", files=files(128)).json()
    (new,) = added["ids"]
    assert added["classes"] == {"day": 5, "night": 4}
    assert new in on_disk(folder).shots.ids
    assert client.get("/v1/shots?class=day").json()["shots"][-1]["name"] == "128.png"
    assert client.patch("/v1/shots", json={"ids": [new], "class": "night"}).json()["classes"] == {"day": 4, "night": 5}
    assert client.delete(f"/v1/shots?id={new}").json()["shots"] == 8
    assert new not in on_disk(folder).shots.ids
    assert client.post("/v1/undo").json()["undone"]["action"] == "remove"
    assert new in on_disk(folder).shots.ids
    assert [entry["action"] for entry in client.get("/v1/journal").json()["journal"]][-2:] == ["remove", "undo"]


def test_the_same_photo_twice_is_said(client):
    first = client.post("/v1/shots?class=day", files=files(128)).json()["ids"]
    again = client.post("/v1/shots?class=day", files=files(128)).json()
    assert again["ids"] == []
    assert again["already_there"] == [{"name": "128.png", "id": first[0], "class": "day"}]


def test_a_corrected_answer(client):
    (before,) = client.post("/v1/predict", files=files(128)).json()["predictions"]
    other = {"day": "night", "night": "day"}[before["class"]]
    client.post(f"/v1/shots?class={other}", files=files(127, 128, 129))
    (after,) = client.post("/v1/predict", files=files(128)).json()["predictions"]
    assert after["class"] == other


def test_classes_come_go_and_change_their_names(client, folder):
    assert client.post("/v1/classes", json={"name": "dusk", "texts": ["dusk"]}).json()["classes"]["dusk"] == 0
    assert client.post("/v1/shots?class=dusk", files=files(120, 122)).json()["classes"]["dusk"] == 2
    assert "dawn" in client.patch("/v1/classes", json={"class": "dusk", "name": "dawn"}).json()["classes"]
    assert len(client.delete("/v1/classes?class=dawn").json()["ids"]) == 2
    assert on_disk(folder).class_names == ("day", "night")
    assert client.post("/v1/shots?class=fog&new_class=true", files=files(140)).json()["classes"]["fog"] == 1


def test_forgetting_leaves_nothing(client, folder):
    (new,) = client.post("/v1/shots?class=day", files=files(128)).json()["ids"]
    client.delete(f"/v1/shots?id={new}&forget=true")
    left = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert new.encode() not in left
    assert client.get(f"/v1/shots/{new}/thumbnail").status_code == 404


def test_an_edit_of_somebody_else_is_seen(client, folder):
    with ImageClassifier.editing(folder, store=None) as classifier:
        classifier.rename_class("night", "dark")
    assert client.post("/v1/predict", files=files(25)).json()["predictions"][0]["class"] == "dark"
    assert client.post("/v1/shots?class=dark", files=files(20)).json()["classes"]["dark"] == 5


def test_two_who_edit_at_once_both_see_both(serving, folder):
    """Two services of one folder, as two processes would be."""
    clients = [serving({"light": folder}) for _ in range(2)]
    for client in clients:
        # FastAPI prepares its routes at the first request, with a filter of warnings that threads would share.
        assert client.post("/v1/shots?class=day").status_code == 415
    shades = [[100, 102, 104], [101, 103, 105]]

    def teach(client, own):
        return [client.post("/v1/shots?class=day", files=files(shade)).json()["ids"] for shade in own]

    with ThreadPoolExecutor(2) as pool:
        ids = [one for found in pool.map(teach, clients, shades) for (one,) in found]
    for client in clients:
        assert {shot["id"] for shot in client.get("/v1/shots").json()["shots"]} >= set(ids)
    assert len(client.get("/v1/journal").json()["journal"]) == 7


def test_an_edit_waits_for_others_only_so_long(serving, folder):
    client = serving({"light": folder}, edit_wait_s=0.05)
    with ImageClassifier.editing(folder, store=None) as classifier:
        classifier.add_class("dusk")
        answer = client.post("/v1/classes", json={"name": "dawn"})
    assert answer.status_code == 409
    assert "--wait SECONDS" in answer.json()["detail"]
    assert client.post("/v1/classes", json={"name": "dawn"}).json()["classes"].keys() == {
        "day",
        "night",
        "dusk",
        "dawn",
    }


def test_folders_of_the_server_are_not_told(serving, folder, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "dusk.png").write_bytes(photo(128))
    with ImageClassifier.editing(folder, store=None) as classifier:
        classifier.add_shots([tmp_path / "secret" / "dusk.png"], ["night"])
    client = serving({"light": folder})
    shots = client.get("/v1/shots")
    assert "dusk.png" in shots.text
    assert "secret" not in shots.text
    evidence = client.post("/v1/predict?evidence=9", files=files(128))
    assert "dusk.png" in evidence.text
    assert "secret" not in evidence.text


def test_thumbnails_are_pictures(client):
    shot = client.get("/v1/shots?limit=1").json()["shots"][0]["id"]
    answer = client.get(f"/v1/shots/{shot}/thumbnail")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content.startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "words"),
    [
        ("post", "/v1/shots?class=fog", {"files": files(20)}, 422, "new_class=true"),
        ("post", "/v1/shots", {"files": files(20)}, 422, "class"),
        ("patch", "/v1/shots", {"json": {"ids": ["nobody"], "class": "day"}}, 422, "nobody"),
        ("patch", "/v1/shots", {"json": {"ids": ["nobody"]}}, 422, "class"),
        ("delete", "/v1/shots?id=nobody", {}, 422, "nobody"),
        ("post", "/v1/undo", {}, 422, "undo"),
        ("post", "/v1/classes", {"json": {"name": "day"}}, 422, "day"),
        ("delete", "/v1/classes?class=fog", {}, 422, "fog"),
        ("post", "/v1/classes", {"content": b"{", "headers": {"content-type": "application/json"}}, 422, "JSON"),
        ("get", "/", {}, 404, "/docs lists"),
        ("get", "/v1/shots/..%2F..%2Fetc%2Fpasswd/thumbnail", {}, 404, ""),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(client, folder, method, path, given, status, words):
    before = on_disk(folder).shots.ids
    answer = getattr(client, method)(path, **given)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert on_disk(folder).shots.ids == before


def test_names_of_classes_may_look_like_anything(client):
    for name in ("../../etc", "<script>alert(1)</script>", "a/b", "naïve ☀"):
        client.post("/v1/classes", json={"name": name, "texts": ["a thing"]})
        assert (
            client.post("/v1/shots", params={"class": name}, files=files(100 + len(name))).json()["classes"][name] == 1
        )
        assert client.request("DELETE", "/v1/classes", params={"class": name}).status_code == 200


def test_read_only(serving, folder):
    client = serving({"light": folder}, editing=False)
    answer = client.post("/v1/shots?class=day", content=photo(128), headers={"content-type": "image/png"})
    assert answer.status_code == 403
    assert len(on_disk(folder).shots) == 8


def test_a_full_disk_is_said_and_loses_nothing(serving, folder, monkeypatch):
    import errno

    from tip_adapter.model.few_shot_model import FewShotModel

    client = serving({"light": folder})

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FewShotModel, "save", full)
    answer = client.post("/v1/shots?class=day", files=files(128))
    assert answer.status_code == 507
    assert "No space left on device" in answer.json()["detail"]
    assert client.get("/v1/shots").json()["total"] == 8
