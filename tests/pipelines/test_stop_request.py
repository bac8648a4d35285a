"""Signals: saved where there is something to save, an interrupt elsewhere."""

from __future__ import annotations

import os
import signal

import pytest

from suite.pipelines.stop_request import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_training_is_asked_to_stop_and_everything_else_is_interrupted(number):
    with StopRequest() as stop:
        with stop.training():
            os.kill(os.getpid(), number)
            assert stop.is_set
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_who_presses_twice_does_not_want_to_wait():
    with StopRequest() as stop, stop.training():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_second_signal_of_a_cluster_changes_nothing():
    with StopRequest() as stop, stop.training():
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
