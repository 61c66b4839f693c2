"""Ctrl-C in a chat on a terminal: it ends an answer, and at the prompt the chat."""

from __future__ import annotations

import importlib
import signal
import sys
import threading

import pytest
from typer.testing import CliRunner

from gradient.cli.app import app
from gradient.cli.interrupt import whole_imports


class Stream:
    """An answer in pieces, broken off after them by an interrupt if `interrupted`."""

    def __init__(self, *pieces: str, interrupted: bool = False) -> None:
        self.pieces, self.interrupted = pieces, interrupted

    def __iter__(self):
        yield from self.pieces
        if self.interrupted:
            signal.raise_signal(signal.SIGINT)


class Model:
    """A language model whose answers are given, and what it was asked."""

    recommended: dict[str, object] = {}
    has_chat_template = True
    tokenizer = model = None

    def __init__(self, *answers: Stream) -> None:
        self.answers, self.asked = list(answers), []

    def trim_messages(self, messages, **options):
        return messages

    def chat(self, messages, **options):
        self.asked.append([(m["role"], m["content"]) for m in messages])
        return self.answers.pop(0)


class Terminal:
    """What a chat sees as `sys`: somebody sits there."""

    class stdin:
        isatty = staticmethod(lambda: True)

    stdout = property(lambda self: sys.stdout)


def talk(monkeypatch, model: Model, *said):
    """How a chat goes whose user says these lines, the last of them by Ctrl-C if it is None."""

    def lines():
        for line in said:
            if line is None:
                signal.raise_signal(signal.SIGINT)
            yield line

    monkeypatch.setattr("gradient.cli.chat.turns", lines)
    monkeypatch.setattr("gradient.cli.chat.load_language_model", lambda *_, **__: model)
    monkeypatch.setattr("gradient.generation.PromptCache", lambda model: None)
    monkeypatch.setattr("gradient.cli.chat.sys", Terminal())
    return CliRunner().invoke(app, ["chat"])


def test_ctrl_c_ends_the_answer_and_keeps_the_chat(monkeypatch):
    model = Model(Stream("Once ", "upon", interrupted=True), Stream("5"))
    result = talk(monkeypatch, model, "a story", "2 + 3?")
    assert (result.exit_code, result.stdout) == (0, "Once upon\n5\n")
    assert model.asked[1] == [("user", "a story"), ("assistant", "Once upon"), ("user", "2 + 3?")]


def test_a_second_ctrl_c_leaves(monkeypatch):
    model = Model(Stream("Once ", interrupted=True))
    result = talk(monkeypatch, model, "a story", None)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert "Traceback" not in result.output


# What was being imported ------------------------------------------------------------------------

SLOW = """
import signal, time
signal.raise_signal(signal.SIGINT)
time.sleep(0.001)
whole = True
"""


def test_an_import_is_not_broken_off(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), whole_imports():
        importlib.import_module("slow_to_import")
        threading.Event().wait(60)  # the interrupt comes now
    assert sys.modules.pop("slow_to_import").whole
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_that_waits_is_dropped_with_what_it_was_for(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("gradient.cli.interrupt.AGAIN", 60)
    with whole_imports():
        importlib.import_module("slow_to_import")
    assert sys.modules.pop("slow_to_import").whole


def test_elsewhere_it_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), whole_imports():
        signal.raise_signal(signal.SIGINT)


def test_another_thread_has_no_signals():
    done = []

    def work():
        with whole_imports():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
