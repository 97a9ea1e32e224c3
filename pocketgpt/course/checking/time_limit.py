"""A time limit for a block of code, so that a loop without an end becomes an error."""

import contextlib
import ctypes
import signal
import threading
from collections.abc import Iterator

AGAIN = 0.5  # seconds until the limit strikes again, in case the block caught the first one


class TookTooLong(BaseException):
    """The time is over. Not an Exception, so that `except Exception` in a loop does not catch it."""


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TookTooLong inside the block once it has run for so many seconds; None sets no limit.

    The main thread is stopped by a signal, which also ends a sleep. Other threads, and Windows, which has no such
    signal, are stopped at the next line of Python.
    """
    if seconds is None:
        yield
        return
    in_main = threading.current_thread() is threading.main_thread()
    stopped = _by_signal if in_main and hasattr(signal, "setitimer") else _by_thread
    with stopped(seconds):
        yield


@contextlib.contextmanager
def _by_signal(seconds: float) -> Iterator[None]:
    handler = signal.signal(signal.SIGALRM, _stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # also if the limit strikes on the line above
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)


def _stop(*_: object) -> None:
    raise TookTooLong


@contextlib.contextmanager
def _by_thread(seconds: float) -> Iterator[None]:
    caller, over = ctypes.c_ulong(threading.get_ident()), threading.Event()

    def watch() -> None:
        wait = seconds
        while not over.wait(wait):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(caller, ctypes.py_object(TookTooLong))
            wait = AGAIN

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        try:
            over.set()
        finally:  # also if the limit strikes on the line above
            over.set()
            watcher.join()
