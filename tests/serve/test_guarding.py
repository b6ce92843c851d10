"""Who may ask, and how much at a time (docs/security.md)."""

import pytest

from serve_files import files, photo
from tip_adapter.serve import Settings, create_app

TOKEN = "s3cret"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[", "[x]"])
def test_other_names_are_refused(client, host):
    """A page that gives its own name this machine's address (DNS rebinding) gets nothing."""
    answer = client.get("/v1/model", headers={"host": host})
    assert answer.status_code == 421
    assert "shots" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "[::1]:8000"])
def test_names_of_this_machine_are_known(client, host):
    assert client.get("/v1/model", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example", "http://127.0.0.1:9"]
)
def test_pages_of_other_sites_are_refused(client, origin):
    assert client.post("/v1/undo", headers={"origin": origin}).status_code == 403
    assert client.post("/v1/predict", files=files(25), headers={"origin": origin}).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pictures_in_pages_of_other_sites_are_refused(client, site):
    """Browsers send no origin with them, but say where they are shown."""
    assert client.get("/v1/model", headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert client.get("/docs", headers={"sec-fetch-site": site, "sec-fetch-mode": "navigate"}).status_code == 200


def test_its_own_page_may_ask(client):
    assert client.post("/v1/predict", files=files(25), headers={"origin": "http://127.0.0.1"}).status_code == 200


def test_a_token_is_needed_where_there_is_one(serving, folder):
    client = serving({"light": folder}, token=TOKEN)
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer "},
    ):
        for path in ("/v1/model", "/metrics", "/docs", "/openapi.json", "/nowhere"):
            assert client.get(path, headers=headers).status_code == 401
    assert client.get("/v1/model", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 200


def test_behind_a_proxy(serving, folder):
    client = serving({"light": folder}, hosts=("photos.example",), token=TOKEN)
    given = {"authorization": f"Bearer {TOKEN}"}
    assert client.get("/v1/model", headers={"host": "photos.example", **given}).status_code == 200
    assert client.get("/v1/model", headers={"host": "127.0.0.1", **given}).status_code == 421


def test_a_large_body_is_refused_by_its_length_and_by_its_bytes(serving, folder):
    client = serving({"light": folder}, max_body_bytes=1000)
    headers = {"content-type": "image/png"}
    assert client.post("/v1/predict", content=b"x" * 1001, headers=headers).status_code == 413

    def pieces():
        for _ in range(20):
            yield b"x" * 100

    answer = client.post("/v1/predict", content=pieces(), headers=headers)
    assert answer.status_code == 413
    assert "at most 1000 bytes" in answer.json()["detail"]
    assert client.post("/v1/predict", content=photo(25), headers=headers).status_code == 200


def test_a_large_body_is_refused_where_json_is_expected(serving, folder):
    client = serving({"light": folder}, max_body_bytes=1000)
    answer = client.patch("/v1/shots", content=iter([b"[" * 600, b"[" * 600]))
    assert answer.status_code == 413
    assert "at most 1000 bytes" in answer.json()["detail"]


def test_bodies_of_all_requests_together_are_bounded(serving, folder):
    client = serving({"light": folder}, held_bytes=1000)
    headers = {"content-type": "image/png"}
    answer = client.post("/v1/predict", content=b"x" * 1001, headers=headers)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    # What is answered is held no longer.
    for _ in range(20):
        assert client.post("/v1/predict", content=photo(25), headers=headers).status_code == 200


def test_many_files_are_refused(serving, folder):
    client = serving({"light": folder}, max_files=3)
    answer = client.post("/v1/predict", files=files(1, 2, 3, 4))
    assert answer.status_code == 400
    assert "Maximum number of files is 3" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "multipart/form-data"}, 400),
        ({"content-type": "multipart/form-data; boundary=x"}, 422),
        ({"content-type": "image/png"}, 422),
    ],
)
def test_bodies_that_are_no_photos(client, headers, status):
    answer = client.post("/v1/predict", content=b"", headers=headers)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_every_answer_keeps_browsers_careful(client):
    for path in ("/v1/model", "/nowhere", "/docs"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def test_nothing_is_served_before_it_began(folder):
    app = create_app({"light": folder}, Settings())
    assert app.state.ready is False


def test_a_body_that_does_not_come_is_not_waited_for(folder):
    """The time for a body is its own, whatever arrives in between."""
    import asyncio

    app = create_app({"light": folder}, Settings(upload_s=0.05))
    sent = []

    async def receive():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/predict",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"image/png")],
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 408
