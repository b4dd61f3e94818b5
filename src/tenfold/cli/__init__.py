"""The commands: words and bars on screen, no mathematics. Importing this room imports neither torch nor numpy."""

from tenfold.cli.app import app, main

__all__ = ["app", "main"]
