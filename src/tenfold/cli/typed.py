"""What was typed, for pages that say how they were made."""

from contextvars import ContextVar

COMMAND: ContextVar[str] = ContextVar("command", default="")  # `tenfold compress ..`, fit to be pasted into a shell
