"""Reporters of a training run: each receives the same few events.

A record is a flat dict of numbers with the keys of metrics.jsonl. Every output (terminal, log, JSON
lines, metrics file, TensorBoard) is one small class; the training loop knows only `Reporter`.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

__all__ = ["Reporter"]

Record = Mapping[str, Any]


class Reporter:
    """The events of a run; this class ignores them all.

    Attributes:
        gone: set if the output pipe of a reporter is closed: the run must save and stop.
    """

    gone: BrokenPipeError | None = None

    def start(self, run: Record) -> None:
        """The run begins, or is resumed after `run["step"]` steps."""

    def step(self, record: Record) -> None:
        """Every `log_every` steps: loss, learning rate, gradient norm, speed, time left."""

    def evaluation(self, record: Record) -> None:
        """A validation loss."""

    def sample(self, step: int, prompt: str, text: str) -> None:
        """A text that the model generated from a prompt at this step."""

    def checkpoint(self, step: int, path: Path, is_best: bool) -> None:
        """A checkpoint is on the disk."""

    def note(self, message: str) -> None:
        """A message for the user: progress, or a problem that did not end the run."""

    def finish(self, result: Record) -> None:
        """The run ended normally: it is complete, or was stopped."""

    def close(self) -> None:
        """There will be no more events, also after an error."""


class Reporters(Reporter):
    """Passes events to several reporters, in order.

    A reporter that cannot write (a full disk) gets no further events, and the others are notified:
    a log must not end the run. A closed pipe does end it: at once, or, if `patient`, after the run
    has saved a checkpoint (see `gone`).
    """

    def __init__(self, reporters: Iterable[Reporter]) -> None:
        self.reporters = list(reporters)
        self.patient = False

    def _tell(self, event: str, *about: Any) -> None:
        for reporter in list(self.reporters):
            try:
                getattr(reporter, event)(*about)
            except BrokenPipeError as error:
                if not self.patient:
                    raise
                self.reporters.remove(reporter)
                self.gone = error
            except OSError as error:
                self.reporters.remove(reporter)
                with contextlib.suppress(OSError):
                    reporter.close()
                self.note(f"warning: {type(reporter).__name__} writes no more: {error}")

    def start(self, run: Record) -> None:
        self._tell("start", run)

    def step(self, record: Record) -> None:
        self._tell("step", record)

    def evaluation(self, record: Record) -> None:
        self._tell("evaluation", record)

    def sample(self, step: int, prompt: str, text: str) -> None:
        self._tell("sample", step, prompt, text)

    def checkpoint(self, step: int, path: Path, is_best: bool) -> None:
        self._tell("checkpoint", step, path, is_best)

    def note(self, message: str) -> None:
        self._tell("note", message)

    def finish(self, result: Record) -> None:
        self._tell("finish", result)

    def close(self) -> None:
        self._tell("close")


def duration(seconds: float) -> str:
    """`75` as `1:15`, `3675` as `1:01:15`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def visible(text: str) -> str:
    """The text with its control characters made visible, for a terminal.

    A model can produce any bytes, also escape sequences that would control the terminal. Line
    breaks and tabs are kept.
    """
    return text.translate(_VISIBLE)


_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_VISIBLE |= {code: 0xFFFD for code in range(0x7F, 0xA0)}


def start_line(run: Record) -> str:
    begun = f", resumed after step {run['step']}" if run["step"] else ""
    return (
        f"{run['parameters'] / 1e6:.2f} M parameters, {run['train_tokens'] / 1e6:.2f} M tokens to "
        f"train on, {run['val_tokens'] / 1e3:.0f} k held out, "
        f"{run['steps']} steps of {run['tokens_per_step']} tokens on {run['device']}{begun}"
    )


def step_line(record: Record) -> str:
    norm = "inf" if record["grad_norm"] is None else f"{record['grad_norm']:.2f}"
    return (
        f"step {record['step']:>6}  loss {record['loss']:.4f}  lr {record['lr']:.2e}  "
        f"norm {norm}  {record['tokens_per_second']:,.0f} tok/s  "
        f"left {duration(record['eta'])}"
    )


def evaluation_line(record: Record) -> str:
    line = f"step {record['step']:>6}  validation loss {record['val_loss']:.4f}"
    bits = record["val_bits_per_byte"]
    return line if bits is None else line + f" ({bits:.3f} bits per byte)"


def finish_line(result: Record) -> str:
    loss = result["val_loss"]
    quality = f", best validation loss {loss:.4f}" if loss is not None else ""
    took = f"{result['step']} steps in {duration(result['elapsed'])}{quality}"
    if result["finished"]:
        return f"finished: {took}\nmodel: {result['model']}"
    resume = shlex.join(["gradient", "train", "--resume", "--out", result["out"]])
    return f"stopped: {took}\nmodel so far: {result['model']}\nresume with: {resume}"


class PlainReporter(Reporter):
    """One line per event, for a log file or a pipe."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream or sys.stdout

    def _print(self, line: str) -> None:
        print(line, file=self.stream, flush=True)

    def start(self, run: Record) -> None:
        self._print(start_line(run))

    def step(self, record: Record) -> None:
        self._print(step_line(record))

    def evaluation(self, record: Record) -> None:
        self._print(evaluation_line(record))

    def sample(self, step: int, prompt: str, text: str) -> None:
        body = visible(prompt + text).replace("\n", "\n    | ")
        self._print(f"step {step:>6}  sample\n    | {body}")

    def checkpoint(self, step: int, path: Path, is_best: bool) -> None:
        self._print(f"step {step:>6}  saved {path}{' (best so far)' if is_best else ''}")

    def note(self, message: str) -> None:
        self._print(message)

    def finish(self, result: Record) -> None:
        self._print(finish_line(result))


class JsonReporter(Reporter):
    """One JSON object per event and line, its kind under `event`."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream or sys.stdout

    def _print(self, event: str, record: Record) -> None:
        print(json.dumps({"event": event, **record}), file=self.stream, flush=True)

    def start(self, run: Record) -> None:
        self._print("start", run)

    def step(self, record: Record) -> None:
        self._print("step", record)

    def evaluation(self, record: Record) -> None:
        self._print("evaluation", record)

    def sample(self, step: int, prompt: str, text: str) -> None:
        self._print("sample", {"step": step, "prompt": prompt, "text": text})

    def checkpoint(self, step: int, path: Path, is_best: bool) -> None:
        self._print("checkpoint", {"step": step, "path": str(path), "is_best": is_best})

    def note(self, message: str) -> None:
        self._print("note", {"message": message})

    def finish(self, result: Record) -> None:
        self._print("finish", result)


class RichReporter(Reporter):
    """A progress bar that stays at the bottom of a terminal, the other events above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.console = Console()
        self.wide = self.console.width >= 70
        columns = [
            TextColumn("[bold]step {task.fields[step]}/{task.fields[steps]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[status]}"),
        ]
        self.progress = Progress(
            *(columns if self.wide else [columns[0], columns[-1]]),
            console=self.console,
            expand=self.wide,
        )
        self.steps = 0
        self.task = self.progress.add_task("", total=1.0, step=0, steps=0, status="starting")

    def _print(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, markup=False, highlight=False)

    def start(self, run: Record) -> None:
        self._print(start_line(run))
        self.progress.update(self.task, step=run["step"], steps=run["steps"])
        self.progress.start()

    def step(self, record: Record) -> None:
        speed = f"  {record['tokens_per_second']:,.0f} tok/s" if self.wide else ""
        self.progress.update(
            self.task,
            completed=record["progress"],
            step=record["step"],
            status=f"loss {record['loss']:.3f}{speed}  left {duration(record['eta'])}",
        )

    def evaluation(self, record: Record) -> None:
        self._print(evaluation_line(record), style="bold")

    def sample(self, step: int, prompt: str, text: str) -> None:
        from rich.panel import Panel
        from rich.text import Text

        body = Text.assemble((visible(prompt), "dim"), visible(text))
        self.console.print(Panel(body, title=f"step {step}", title_align="left"))

    def checkpoint(self, step: int, path: Path, is_best: bool) -> None:
        self._print(f"saved {path}{' (best so far)' if is_best else ''}", style="dim")

    def note(self, message: str) -> None:
        self._print(message, style="cyan")

    def finish(self, result: Record) -> None:
        self.progress.stop()
        self._print(finish_line(result), style="bold green")

    def close(self) -> None:
        self.progress.stop()


def for_stream(stream: IO[str] | None = None) -> Reporter:
    """A progress bar if standard output is a terminal, log lines otherwise."""
    stream = stream or sys.stdout
    return RichReporter() if stream.isatty() else PlainReporter(stream)
