"""Find the folders for what this package can make again, as the environment sets them."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir

CACHE_VARIABLE = "TIP_ADAPTER_CACHE"


def cache_dir() -> Path:
    """Return the root of the caches: prepared encoders, and the feature store.

    The environment variable ``TIP_ADAPTER_CACHE`` overrides the operating system's user cache folder. The folder is not
    made here: whoever writes makes it.

    Examples
    --------
    >>> from tip_adapter.storage.cache_folder import cache_dir
    >>> cache_dir().is_absolute()
    True
    """
    override = os.environ.get(CACHE_VARIABLE)
    root = Path(override).expanduser() if override else Path(user_cache_dir("tip-adapter", appauthor=False))
    return root.absolute()
