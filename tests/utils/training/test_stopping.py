"""Signals as wishes: noted, fulfilled at the end of a step, at once where nothing would be lost."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from utils.errors import StoppedRun
from utils.training.stopping import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_the_usual_reaction_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.wanted
        os.kill(os.getpid(), number)
        assert stop.wanted and stop.signal_name == number.name
    assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_the_command() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wanted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_is_obeyed_at_once_where_it_may_be() -> None:
    with StopRequest() as stop:
        with stop.at_once(), pytest.raises(StoppedRun, match="SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StoppedRun), stop.at_once():
            pytest.fail("a signal that came before was forgotten")


def test_a_second_sigterm_does_not_break_off_what_the_first_began() -> None:
    with StopRequest() as stop, pytest.raises(StoppedRun), stop.at_once():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            saved = True
    assert saved


def test_a_run_in_another_thread_leaves_signals_alone() -> None:
    found = []

    def work() -> None:
        with StopRequest() as stop:
            found.append((stop.wanted, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)]
