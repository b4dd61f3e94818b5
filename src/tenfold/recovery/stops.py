"""A stop that waits for the end of a step: what is half done cannot be kept."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # the keyboard; whoever ends jobs, `torchrun` too


class Stop:
    """Whether someone has asked for a stop."""

    asked = False


@contextmanager
def held_back() -> Iterator[Stop]:
    """A stop that is asked for inside comes at the end of the block, as KeyboardInterrupt; a second one at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield stop
        return
    heard = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in heard.items() if handler not in (None, signal.SIG_IGN)}

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        stop.asked = True
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.asked:
        raise KeyboardInterrupt
