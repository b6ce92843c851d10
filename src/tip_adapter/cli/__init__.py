"""The command line: arguments in, tables or JSON on stdout out, messages and errors on stderr."""

from tip_adapter.cli.app import app, main

__all__ = ["app", "main"]
