"""Saved classifiers over HTTP: predictions with evidence, and edits that are acknowledged once they are on the disk."""

from __future__ import annotations

from tip_adapter.serve.app import create_app
from tip_adapter.serve.settings import Settings

__all__ = ["Settings", "create_app"]
