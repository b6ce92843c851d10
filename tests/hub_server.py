"""A small Hub on this machine: repositories of files, served as `huggingface_hub` asks for them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c0ffee" * 6 + "c0ff"
MANY = 2**20
"""Files from this size on are kept in git-lfs, under their SHA-256."""

LARGE_SUFFIXES = (".safetensors", ".zip")
"""Files that a new repository keeps in git-lfs, however small."""


class Hub:
    """What the server has, how it misbehaves, and what it was asked.

    Attributes
    ----------
    files : dict of str to dict of str to bytes
        By repository, contents by name.
    revisions : dict of str to str
        Commits by branch or tag.
    gated : set of str
        Repositories whose files nobody gets.
    damaged : set of str
        Files of which other bytes are sent.
    cut : dict of str to int
        After how many bytes the first answer with a file breaks off.
    asked : list of (method, path, range)
    token : str
        Who may write.
    large : dict of str to bytes
        Contents by SHA-256, as git-lfs keeps them.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.revisions = {"main": COMMIT}
        self.gated: set[str] = set()
        self.damaged: set[str] = set()
        self.cut: dict[str, int] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.address = ""
        self.token = "hf_of_the_test"
        self.large: dict[str, bytes] = {}

    def add(self, repository: str, folder: Path, inside: str = "") -> None:
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.files.setdefault(repository, {}).update({inside + name: content for name, content in found.items()})

    def sent(self) -> list[str]:
        """Names of the files whose contents were asked for."""
        return [
            path.split(f"/{COMMIT}/")[1] for method, path, _ in self.asked if method == "GET" and "/resolve/" in path
        ]


def hashes(content: bytes) -> dict[str, str]:
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"oid": oid} | ({"sha256": hashlib.sha256(content).hexdigest()} if len(content) >= MANY else {})


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        """Uploads: `huggingface_hub` asks how each file is wanted, and sends small ones inside the commit."""
        path = self.path.split("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(("POST", path, None))
        if path == "/api/validate-yaml":
            return self.tell({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.refuse(401, "", "Invalid username or password.")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
            self.hub.files.setdefault(name, {})
            return self.tell({"url": f"{self.hub.address}/{name}", "name": name, "id": name})
        if path.endswith(".git/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            address = f"{self.hub.address}/lfs/"
            objects = [one | {"actions": {"upload": {"href": address + one["oid"]}}} for one in wanted]
            return self.tell({"transfer": "basic", "objects": objects})
        repository, what = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(\w+)/main", path).groups()
        if what == "preupload":
            names = [one["path"] for one in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(LARGE_SUFFIXES) else "regular" for name in names}
            answers = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]
            return self.tell({"files": answers})
        files = self.hub.files[repository]
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "lfsFile":
                files[entry["value"]["path"]] = self.hub.large[entry["value"]["oid"]]
            elif entry["key"] == "deletedFile":
                files.pop(entry["value"]["path"], None)
        return self.tell({"commitUrl": f"{self.hub.address}/{repository}/commit/{COMMIT}", "commitOid": COMMIT})

    def do_PUT(self) -> None:
        """Contents of large files, which a commit names afterwards."""
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(("PUT", self.path, None))
        self.hub.large[hashlib.sha256(content).hexdigest()] = content
        self.tell({})

    def tell(self, value) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self) -> None:
        path = self.path.split("?")[0]
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(/.*)?)?", path):
            self.describe(found[1], found[2], found[3] or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.send_file(found[1], found[2], found[3])
        else:
            self.refuse(404, "EntryNotFound")

    def refuse(self, status: int, code: str, message: str = "") -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def known(self, repository: str, revision: str) -> str | None:
        """The commit, or nothing once the request has been refused."""
        if repository not in self.hub.files:  # the Hub says the same of private ones
            self.refuse(401, "RepoNotFound", "Invalid username or password.")
            return None
        commit = self.hub.revisions.get(revision, revision)
        if commit not in self.hub.revisions.values():
            self.refuse(404, "RevisionNotFound")
            return None
        return commit

    def describe(self, repository: str, what: str | None, revision: str) -> None:
        commit = self.known(repository, revision)
        if commit is None:
            return
        files = self.hub.files[repository]
        tree = []
        for name, content in files.items():
            found = hashes(content)
            entry = {"type": "file", "path": name, "size": len(content), "oid": found["oid"]}
            if "sha256" in found:
                entry["lfs"] = {"oid": found["sha256"], "size": len(content), "pointerSize": 130}
            tree.append(entry)
        about = {"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
        data = json.dumps(tree if what == "tree" else about).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_file(self, repository: str, revision: str, name: str) -> None:
        commit = self.known(repository, revision)
        if commit is None:
            return
        if repository in self.hub.gated:
            self.refuse(403, "GatedRepo")
            return
        content = self.hub.files[repository].get(name)
        if content is None:
            self.refuse(404, "EntryNotFound")
            return
        found, start = hashes(content), 0
        if given := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(given[1])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{found["oid"]}"')
        if "sha256" in found:
            self.send_header("X-Linked-Etag", f'"{found["sha256"]}"')
            self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if name in self.hub.damaged:
            content = bytes(len(content))
        end = self.hub.cut.pop(name, None)
        self.wfile.write(content[start:end])
        self.close_connection = end is not None


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
