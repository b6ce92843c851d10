"""The command `tip-adapter serve` as a process: slow clients, its end, its sudden end."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from serve_files import photo
from tip_adapter import ImageClassifier


@pytest.fixture
def start(tmp_path):
    """Start the command on a free port, wait until it serves; stopped at the end."""
    running = []

    def begin(*arguments, **variables):
        command = [sys.executable, "-m", "tip_adapter", "serve", "--port", "0", *map(str, arguments)]
        environment = os.environ | {"TIP_ADAPTER_CACHE": str(tmp_path / "cache")} | variables
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        running.append(process)
        line = process.stdout.readline()
        port = re.search(r"at http://127\.0\.0\.1:(\d+);", line)
        assert port, line + process.stderr.read()
        return process, int(port[1])

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def ask(port, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def head(path, length):
    lines = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: image/png", f"Content-Length: {length}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def test_it_answers_and_ends_when_asked(start, folder):
    process, port = start(folder)
    status, found = ask(port, "POST", "/v1/predict", photo(25), content_type="image/png")
    assert (status, found["predictions"][0]["class"]) == (200, "night")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    assert process.stderr.read() == ""


def test_acknowledged_edits_survive_a_sudden_end(start, folder):
    process, port = start(folder)
    acknowledged = []
    for shade in (100, 110, 120):
        _, found = ask(port, "POST", "/v1/shots?class=day", photo(shade), content_type="image/png")
        acknowledged += found["ids"]
    # One more is under way when it ends.
    raw = socket.create_connection(("127.0.0.1", port))
    body = photo(130)
    raw.sendall(head("/v1/shots?class=day", len(body)) + body)
    process.kill()
    process.wait()
    raw.close()
    assert len(acknowledged) == 3
    assert set(acknowledged) <= set(ImageClassifier.load(folder, store=None).model_.shots.ids)


def test_what_was_accepted_is_finished_at_the_end(start, folder):
    process, port = start(folder)
    body = photo(25)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
        raw.sendall(head("/v1/predict", len(body)).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert raw.recv(100).startswith(b"HTTP/1.1 100")  # the application waits for the body
        process.send_signal(signal.SIGTERM)
        raw.sendall(body)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"night" in answer
    assert process.wait(30) == -signal.SIGTERM


def test_a_body_shorter_than_it_says_keeps_nobody_else_waiting(start, folder):
    _, port = start(folder)
    raw = socket.create_connection(("127.0.0.1", port))
    raw.sendall(
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nx"
    )
    assert ask(port, "GET", "/healthz") == (200, {"status": "ok"})
    raw.close()
    assert ask(port, "GET", "/readyz") == (200, {"status": "ready"})


def test_an_address_for_others_needs_a_token(run, folder):
    code, _, err = run("serve", folder, "--host", "0.0.0.0")
    assert code == 3
    assert "give --token, or $TIP_ADAPTER_TOKEN" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "nonsense"], "There is no protocol 'nonsense'"),
        (["--protocol", "label-studio", "--label-studio-url", "127.0.0.1:8080"], "got '127.0.0.1:8080'"),
        (["--protocol", "label-studio", "--label-studio-url", "http://a@b/"], "got 'http://a@b/'"),
        (["--label-studio-url", "http://127.0.0.1:8080"], "Expected --protocol label-studio"),
    ],
)
def test_what_protocols_lack_is_told_before_it_serves(run, folder, words, message):
    code, _, err = run("serve", folder, "--port", 0, *words)
    assert (code, err.count("\n")) == (3, 1)
    assert message in err


@pytest.mark.parametrize(("name", "message"), [("bad.zip", "archive at"), ("gone.zip", "found nothing")])
def test_a_studio_of_nothing_says_so(run, tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no archive")
    code, _, err = run("studio", tmp_path / name, "-e", "fake", "--port", 0, "--no-browser")
    assert (code, err.count("\n")) == (3, 1)
    assert message in err


def test_a_studio_goes_on_with_the_method_that_a_classifier_has(run, folder, tmp_path):
    code, _, err = run("studio", folder, "-e", "fake", "-m", "tip-adapter:beta=2", "--port", 0, "--no-browser")
    assert (code, err.count("\n")) == (3, 1)
    assert "got one by auto" in err
    code, _, err = run("studio", tmp_path / "new.tip", "-e", "fake", "-m", "tip", "--port", 0, "--no-browser")
    assert code == 3
    assert "'tip'" in err


def test_a_port_that_is_taken(run, folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = run("serve", folder, "--port", taken.getsockname()[1])
    assert code == 3
    assert "give another --port" in err


def test_no_classifier(run, tmp_path):
    code, _, err = run("serve", tmp_path / "nothing.tip")
    assert code == 4
    assert "there is no folder" in err
