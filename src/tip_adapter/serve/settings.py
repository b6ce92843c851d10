"""What a service may do, and how much of it at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tip_adapter.storage.locking import WAIT_S
from tip_adapter.typing import StrPath

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Settings:
    """Limits and permissions of a service.

    Parameters
    ----------
    token : str, optional
        What requests have to bring as ``Authorization: Bearer TOKEN``; None asks for nothing.
    hosts : tuple of str
        Names that the service may be called by, without ports. Others are refused, so that no web page can reach it
        under a name of its own (DNS rebinding).
    editing : bool, default=True
        Whether shots and classes may be changed.
    teaching : bool, default=False
        Whether a classifier may be taught that does not exist yet, and the studio be shown.
    method : str, default="auto"
        What a classifier is taught by that does not exist yet, as ``fit`` takes it.
    protocols : tuple of str
        Ways of asking that other services have, by name (`tip_adapter.serve.protocols.PROTOCOLS`).
    label_studio_url, label_studio_token : str, optional
        The Label Studio whose photos may be fetched; without it nothing is fetched.
    store : "default", path or None, default=None
        Where features of new shots and of `unlabelled` are kept; those of photos that are classified never are.
    unlabelled : tuple of path-like
        Photos to choose from what to label next.
    max_unlabelled, sent_bytes : int
        Photos that may wait to be labelled, and bytes of those that clients sent.
    keep_requests : path-like, optional
        Folder where photos of requests are kept that are worth a label; without it none is.
    keep_photos, keep_bytes : int
        Of each classifier, at most.
    max_body_bytes, max_files : int
        Of one request.
    held_bytes : int
        Of all requests together that are not answered yet.
    upload_s, answer_s, edit_wait_s : float
        Seconds for a request's body to arrive, for its photos to be encoded, and to wait for other editors.
    window_s : float
        How long the first photo waits for others to be encoded with.
    batch, queue : int
        Photos that are encoded together, and that may wait.
    """

    token: str | None = None
    hosts: tuple[str, ...] = LOOPBACK
    editing: bool = True
    teaching: bool = False
    method: str = "auto"
    protocols: tuple[str, ...] = ()
    label_studio_url: str | None = None
    label_studio_token: str | None = None
    store: StrPath | Literal["default"] | None = None
    unlabelled: tuple[StrPath, ...] = ()
    max_unlabelled: int = 5000
    sent_bytes: int = 2**31
    keep_requests: StrPath | None = None
    keep_photos: int = 1000
    keep_bytes: int = 2**30
    max_body_bytes: int = 64 * 2**20
    max_files: int = 256
    held_bytes: int = 256 * 2**20
    upload_s: float = 60.0
    answer_s: float = 30.0
    edit_wait_s: float = WAIT_S
    window_s: float = 0.002
    batch: int = 32
    queue: int = 512

    @property
    def labelling(self) -> bool:
        """Whether clients may ask what to label next, and send photos for it."""
        return self.teaching or bool(self.unlabelled) or self.keep_requests is not None
