"""Exchange folders with the Hugging Face Hub, with errors in one line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tip_adapter.errors import InputError, TipAdapterError
from tip_adapter.libraries import import_library

HUB_PREFIX = "hub:"


def download_folder(address: str, patterns: Sequence[str]) -> Path:
    """Fetch files of ``owner/name`` (or ``owner/name@revision``) into the Hub's cache, or take them from there.

    Only those of these patterns: a repository of something else may be a hundred gigabytes large.
    """
    repo_id, _, revision = address.partition("@")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repo_id):
        raise InputError(f"Expected {HUB_PREFIX}owner/name, got {HUB_PREFIX}{address}")
    huggingface_hub = import_library("huggingface_hub")
    with _clear_hub_errors(repo_id, revision):
        return Path(
            huggingface_hub.snapshot_download(repo_id, revision=revision or None, allow_patterns=list(patterns))
        )


def upload_folder(folder: Path, names: Sequence[str], repo_id: str, *, private: bool) -> str:
    """Upload files of a folder, in place of whatever the repository had; return the address of the commit."""
    huggingface_hub = import_library("huggingface_hub")
    if huggingface_hub.get_token() is None:
        raise TipAdapterError(
            f"Expected a token to upload {repo_id} with, found none: set HF_TOKEN, or run hf auth login"
        )
    with _clear_hub_errors(repo_id):
        huggingface_hub.create_repo(repo_id, private=private, exist_ok=True)
        # What an earlier version had and this one has not must go: it may be a photo that its owner wants forgotten.
        commit = huggingface_hub.upload_folder(
            repo_id=repo_id, folder_path=folder, allow_patterns=list(names), delete_patterns="*"
        )
    return str(commit.commit_url)


@contextlib.contextmanager
def _clear_hub_errors(repo_id: str, revision: str = "") -> Iterator[None]:
    errors = import_library("huggingface_hub.errors")
    try:
        yield
    except errors.GatedRepoError as error:
        raise TipAdapterError(
            f"The Hub repository {repo_id} is gated: accept its terms on its page, then log in here (hf auth login)"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise TipAdapterError(
            f"Found no Hub repository {repo_id} that you may see: check its name, or log in if it is private "
            "(HF_TOKEN, or hf auth login)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise TipAdapterError(
            f"Found no revision {revision} of the Hub repository {repo_id}: check its name"
        ) from error
    except Exception as error:  # the network's many ways to fail, in the words of several HTTP libraries
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise TipAdapterError(
            f"The Hub repository {repo_id} cannot be reached ({reason[0]}): check its name, your access (HF_TOKEN, or "
            "hf auth login) and the network"
        ) from error
