"""A loop that does not end is stopped, in the main thread and in others, and said to be one."""

import contextlib
import threading
import time

import pytest

from pocketgpt.course.checking import time_limit as limits
from pocketgpt.course.checking.check import CheckFailed, Interrupted
from pocketgpt.course.checking.time_limit import TookTooLong, time_limit
from pocketgpt.course.lab import check


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(check, "seconds", 0.2)


def merge_pair_that_stands_still(tokens, pair):
    result, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            result = [pair[0] + pair[1]]
            i += 2
        else:
            result = [tokens[i]]
    return result


def endless():
    while True:
        pass


def stopped_after(seconds: float) -> float:
    start = time.monotonic()
    with pytest.raises(TookTooLong), time_limit(seconds):
        endless()
    return time.monotonic() - start


def test_a_loop_without_an_end_is_said_to_be_one_with_its_input(short):
    with pytest.raises(CheckFailed) as failure:
        check.merge_pair(merge_pair_that_stands_still)
    message = str(failure.value)
    assert "Your loop does not end: does the index grow in every branch?\n\nwith `tokens` = [b'" in message
    assert check.example("merge_pair")


def test_a_loop_that_catches_every_exception_is_stopped_too(short):
    def answer(tokens, pair):
        while True:
            with contextlib.suppress(Exception):
                endless()

    with pytest.raises(CheckFailed, match="Your loop does not end"):
        check.merge_pair(answer)


def test_the_limit_works_without_signals(monkeypatch):
    monkeypatch.delattr(limits.signal, "setitimer")  # as on Windows
    assert stopped_after(0.1) < 5


def test_the_limit_works_in_another_thread():
    taken = []
    thread = threading.Thread(target=lambda: taken.append(stopped_after(0.1)))
    thread.start()
    thread.join(10)
    assert taken


def test_nothing_strikes_after_the_block():
    for _ in range(3):
        with time_limit(0.05):
            pass
    time.sleep(0.1)


def test_an_interrupted_check_is_one_line():
    def answer(tokens, pair):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        check.merge_pair(answer)
    assert isinstance(stopped.value, Interrupted) and stopped.value.__suppress_context__
    assert stopped.value._render_traceback_() == ["The check of merge_pair was interrupted."]
