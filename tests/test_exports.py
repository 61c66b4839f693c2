"""Modules that are imported when one of their names is first asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.cpu_only

TWO_THREADS = """
import sys
import threading
from importlib.machinery import PathFinder, SourceFileLoader

import gradient

begun, errors = threading.Event(), []


class Late(SourceFileLoader):
    def create_module(self, spec):
        begun.set()
        second.join(0.5)  # it comes as far as it can


class Finder:
    def find_spec(name, path=None, target=None):
        if name == "gradient.functional" and threading.current_thread() is first:
            spec = PathFinder.find_spec(name, path)
            spec.loader = Late(name, spec.loader.path)
            return spec


def naming(ask, before):
    def run():
        before.wait()
        try:
            ask()
        except BaseException as error:
            errors.append(repr(error))

    return threading.Thread(target=run)


now = threading.Event()
now.set()
first = naming(lambda: gradient.functional.softmax, now)
second = naming(lambda: gradient.hann_window, begun)  # of a file that needs functional.padding
sys.meta_path.insert(0, Finder)
second.start(), first.start()
first.join(), second.join()
print(errors)
"""


def test_two_threads_may_name_modules_that_need_each_other():
    done = subprocess.run(
        [sys.executable, "-c", TWO_THREADS], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "importing"), [("__main__", False), ("gradient.late", True)])
def test_the_main_module_waits_for_its_turn(name, importing):
    """`python -m gradient` holds no lock of importlib's, as a module does that is imported."""
    from gradient import _exports, source_lines

    code = compile("found = asked()", source_lines.PACKAGE + "late.py", "exec")
    names = {"__name__": name, "asked": _exports._is_importing}
    exec(code, names)
    assert names["found"] is importing


def test_threads_that_ask_for_a_device_at_once_get_one_backend(monkeypatch):
    from gradient.backends import registry

    monkeypatch.setattr(registry, "_made", {})
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))

    calls, others = [], []

    def factory(index):
        calls.append(index)
        if len(calls) == 1:
            others.append(registry.get("slow"))  # as another thread may meanwhile
        return object()

    registry.register("slow", factory)
    backend = registry.get("slow")
    assert backend is others[0]
    assert backend is registry.get("slow")
