"""Signals at safe points."""

import signal
import threading
from collections.abc import Iterator

import pytest

from targen.runtime.signals import interrupts_wait


@pytest.fixture(autouse=True)
def interrupt_raises() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(times: int, reached: list[int]) -> None:
    """A body in which Ctrl-C comes so many times; `reached` gets the number of each that it went on after."""
    with interrupts_wait():
        for number in range(1, times + 1):
            signal.raise_signal(signal.SIGINT)
            reached.append(number)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_waits_for_the_end_of_the_body_and_a_second_one_comes_at_once(times: int) -> None:
    reached: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(times, reached)
    assert reached == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_of_the_body_is_raised_where_no_ctrl_c_came() -> None:
    with pytest.raises(ValueError, match="its own"), interrupts_wait():
        raise ValueError("its own")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_and_ignored_interrupts_are_left_alone() -> None:
    handlers = []

    def body() -> None:
        with interrupts_wait():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    body()
    assert handlers == [signal.default_int_handler, signal.SIG_IGN]
