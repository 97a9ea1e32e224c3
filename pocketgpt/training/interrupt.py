"""Ctrl-C that waits for the end of the step."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupt_after_step() -> Iterator[Callable[[], bool]]:
    """Inside the block a first Ctrl-C is remembered instead of raised; the function says whether there was one.

    A second Ctrl-C interrupts at once. Outside the main thread, where signals cannot be caught, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    interrupted = False

    def remember(signal_number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        # os.write, because a handler may run in the middle of a print.
        os.write(2, b"\nFinishing the step, then saving. Ctrl-C again stops at once.\n")
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: interrupted
    finally:
        signal.signal(signal.SIGINT, before)
