"""The command line: results on stdout as tables or JSON, messages and errors on stderr."""

from tip_adapter.cli.app import app, main

__all__ = ["app", "main"]
