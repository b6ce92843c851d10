"""Photos of tasks, from the one Label Studio that was configured and from nowhere else."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from tip_adapter.data.decoding import NamedBytes
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.protocols import photo_of
from tip_adapter.serve.settings import Settings
from tip_adapter.serve.uploads import shown

TIMEOUT_S = 10
OK = 200


def photo_at(address: object, settings: Settings) -> NamedBytes:
    """Fetch what a task names: a path on the configured host, the same in full, or data: in the task itself."""
    if not isinstance(address, str):
        raise Problem(422, "Expected a task whose data has the address of its photo as text")
    if address[:5].lower() == "data:":
        return photo_of(address, "the task's photo")
    home = urlsplit(settings.label_studio_url or "")
    try:
        asked = urlsplit(address)
        same = (asked.scheme, asked.netloc) == (home.scheme, home.netloc)
    except ValueError:
        same = False
    if not home.netloc or not (same or (address.startswith("/") and not asked.netloc)):
        raise Problem(422, f"Photos are fetched from --label-studio-url alone, got {address[:80]!r}")
    path = asked.path + (f"?{asked.query}" if asked.query else "")
    return NamedBytes(_body(home.scheme, home.netloc, path, settings), shown(asked.path))


def _body(scheme: str, host: str, path: str, settings: Settings) -> bytes:
    """Get a file; redirects, which could lead anywhere, are not followed."""
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    token = settings.label_studio_token
    connection = kind(host, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Authorization": f"Token {token}"} if token else {})
        answer = connection.getresponse()
        if answer.status != OK:
            raise Problem(424, f"Label Studio answered {answer.status} for {path[:80]!r}: is its token right?")
        body = answer.read(settings.max_body_bytes + 1)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise Problem(424, f"Label Studio gave no photo: {error!s:.80}") from None
    finally:
        connection.close()
    if len(body) > settings.max_body_bytes:
        raise Problem(422, f"Expected a photo of at most {settings.max_body_bytes} bytes")
    return body
