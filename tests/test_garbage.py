"""Pauses of Python's garbage collector."""

from __future__ import annotations

import contextlib
import gc
import os
import threading

import pytest

from gradient.garbage import no_collections


@pytest.fixture(autouse=True)
def collector():
    was_enabled = gc.isenabled()
    gc.enable()
    yield
    gc.enable() if was_enabled else gc.disable()


def test_pauses_nest():
    with no_collections():
        with no_collections():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    with no_collections():
        pass
    assert not gc.isenabled()


def test_an_error_ends_a_pause():
    with pytest.raises(KeyError), no_collections():
        raise KeyError
    assert gc.isenabled()


def run_in_pause(begun: threading.Event, ends: threading.Event) -> threading.Thread:
    """Start a thread that is in a pause, from `begun` until `ends`."""

    def run():
        with no_collections():
            begun.set()
            ends.wait(30)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(30)
    return thread


def test_a_pause_outlasts_an_earlier_one_of_another_thread():
    ends = threading.Event()
    thread = run_in_pause(threading.Event(), ends)
    with no_collections():
        ends.set()
        thread.join()
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("own", [False, True], ids=["of another thread", "of its own too"])
def test_a_child_ends_the_pauses_of_threads_that_it_does_not_have(own):
    ends = threading.Event()
    thread = run_in_pause(threading.Event(), ends)
    with no_collections() if own else contextlib.nullcontext():
        pid = os.fork()
        if not pid:
            os._exit(int(gc.isenabled()))
        ends.set()
        thread.join()
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == (0 if own else 1)
