"""Files of a request: raw, or parts of a form; named by the client, kept by nobody."""

from __future__ import annotations

from email.message import Message
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tip_adapter.data.decoding import NamedBytes
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.settings import Settings

FIELDS = 16
NAME_CHARACTERS = 200

FILES_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


async def read_uploads(request: Request) -> list[NamedBytes]:
    """Read the photos of a request: the parts called `files` of a form, or the whole body."""
    settings: Settings = request.app.state.settings
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise Problem(
                415, f"Expected multipart/form-data with files=…, or one photo as image/*, got {kind or 'none'}"
            )
        found = [NamedBytes(await request.body(), _name_of(request))]
    else:
        try:
            async with request.form(max_files=settings.max_files, max_fields=FIELDS) as form:
                found = await _files(form)
        except Problem:
            raise
        except HTTPException as error:
            raise Problem(error.status_code, f"{str(error.detail).rstrip('.')}: send fewer files at a time") from error
    if not found:
        raise Problem(422, "Expected at least one photo, in fields called files, got none")
    return found


async def _files(form: FormData) -> list[NamedBytes]:
    return [
        NamedBytes(await part.read(), shown(part.filename or f"photo {number}"))
        for number, part in enumerate(form.getlist("files"), start=1)
        if isinstance(part, UploadFile)
    ]


def _name_of(request: Request) -> str:
    header = Message()
    header["content-disposition"] = request.headers.get("content-disposition", "")
    return shown(header.get_filename() or "photo")


def shown(name: str) -> str:
    """Keep the last part of a name: a client's never becomes a path, and the server's folders are nobody's business."""
    return name.replace("\\", "/").rpartition("/")[2][:NAME_CHARACTERS] or "photo"
