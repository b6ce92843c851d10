"""What a service may do, and how much of it at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tip_adapter.storage.locking import WAIT_S
from tip_adapter.typing import StrPath

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Settings:
    """Limits and permissions of a service."""

    token: str | None = None
    """What requests have to bring as ``Authorization: Bearer TOKEN``; None asks for nothing."""
    hosts: tuple[str, ...] = LOOPBACK
    """Names that the service may be called by, without ports. Others are refused, so that no web page can reach it
    under a name of its own (DNS rebinding)."""
    editing: bool = True
    """Whether shots and classes may be changed."""
    teaching: bool = False
    """Whether a classifier may be taught that does not exist yet, and the studio be shown."""
    method: str = "auto"
    """What a classifier is taught by that does not exist yet, as ``fit`` takes it."""
    protocols: tuple[str, ...] = ()
    """Ways of asking that other services have, by name (`tip_adapter.serve.protocols.PROTOCOLS`)."""
    label_studio_url: str | None = None
    label_studio_token: str | None = None
    """label_studio_url and label_studio_token: the Label Studio whose photos may be fetched; without it nothing is
    fetched."""
    store: StrPath | Literal["default"] | None = None
    """Where features of new shots and of `unlabelled` are kept; those of photos that are classified never are."""
    unlabelled: tuple[StrPath, ...] = ()
    """Photos to choose from what to label next."""
    max_unlabelled: int = 5000
    sent_bytes: int = 2**31
    """max_unlabelled and sent_bytes: photos that may wait to be labelled, and bytes of those that clients sent."""
    keep_requests: StrPath | None = None
    """Folder where photos of requests are kept that are worth a label; without it none is."""
    keep_photos: int = 1000
    keep_bytes: int = 2**30
    """keep_photos and keep_bytes: of each classifier, at most."""
    max_body_bytes: int = 64 * 2**20
    max_files: int = 256
    """max_body_bytes and max_files: of one request."""
    held_bytes: int = 256 * 2**20
    """Of all requests together that are not answered yet."""
    upload_s: float = 60.0
    answer_s: float = 30.0
    edit_wait_s: float = WAIT_S
    """upload_s, answer_s and edit_wait_s: seconds for a request's body to arrive, for its photos to be encoded, and to
    wait for other editors."""
    window_s: float = 0.002
    """How long the first photo waits for others to be encoded with."""
    batch: int = 32
    queue: int = 512
    """batch and queue: photos that are encoded together, and that may wait."""

    @property
    def labelling(self) -> bool:
        """Whether clients may ask what to label next, and send photos for it."""
        return self.teaching or bool(self.unlabelled) or self.keep_requests is not None
