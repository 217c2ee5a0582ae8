"""SIGTERM and SIGINT request that training finishes its step and saves; a second one ends it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether a signal came. `signal` is its number, 0 for none."""

    def __init__(self) -> None:
        self.signal = 0


@contextmanager
def watch() -> Iterator[StopRequest]:
    """Watch for the two signals inside the block, then restore the handlers.

    Signals reach the main thread only; in another thread nothing is watched.

    Yields:
        The request, whose `signal` the first signal sets.

    Raises:
        KeyboardInterrupt: On a second signal.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request.signal:
            raise KeyboardInterrupt
        request.signal = number

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
