"""Signals that wait for the end of the step: Ctrl-C, and SIGTERM, with which clusters announce the end of a job."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupt_after_step() -> Iterator[Callable[[], bool]]:
    """Inside the block a first Ctrl-C or SIGTERM is remembered instead of raised; the function says whether there was
    one.

    A second Ctrl-C interrupts at once. Not under torchrun, which passes on the Ctrl-C that its processes got already;
    it kills them itself, after 30 seconds. Outside the main thread, where signals cannot be caught, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    interrupted, passed_on = False, "TORCHELASTIC_RUN_ID" in os.environ

    def remember(signal_number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted and os.environ.get("RANK", "0") == "0":
            # os.write, because a handler may run in the middle of a print.
            again = "" if passed_on else " Ctrl-C again stops at once."
            os.write(2, f"\nFinishing the step, then saving.{again}\n".encode())
        interrupted = True
        if not passed_on:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
