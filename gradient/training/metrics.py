"""The numbers of a run as files: metrics.jsonl, TensorBoard's event files where installed, and the
loss curve as a picture (which needs matplotlib, an extra)."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradient.errors import FileFormatError, MissingDependency
from gradient.io.atomic import write_bytes, write_text
from gradient.training.reporters import Record, Reporter


class MetricsFile(Reporter):
    """Appends step and validation records to a JSON-lines file.

    Opened after `step` steps, it first drops records of later steps: a crashed run may have
    logged further than its last checkpoint, and the resumed run logs those steps again.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self.path = path
        kept = [record for record in read_metrics(path) if record["step"] <= step]
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
        self.file = path.open("a", encoding="utf-8")

    def _write(self, record: Record) -> None:
        self.file.write(json.dumps(dict(record)) + "\n")
        self.file.flush()

    def step(self, record: Record) -> None:
        self._write(record)

    def evaluation(self, record: Record) -> None:
        self._write(record)

    def close(self) -> None:
        self.file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file, without a last line that a crash cut short.

    Raises:
        FileFormatError: another line is not a JSON object with a step.
    """
    if not path.exists():
        return []
    # A line with bytes that are not UTF-8 is not JSON, and is reported as such.
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            record["step"]
        except (json.JSONDecodeError, TypeError, KeyError):
            if number == len(lines):
                break
            raise FileFormatError(
                f"{path}, line {number}: expected a JSON object with a step, got {line[:60]!r}"
            ) from None
        records.append(record)
    return records


class TensorBoardEvents(Reporter):
    """Writes the same numbers as TensorBoard event files.

    Uses the writer of the `tensorboard` package, which needs neither TensorFlow nor PyTorch. Opened
    after `step` steps, it has TensorBoard drop the records of later steps in older files.

    Raises:
        ImportError: `tensorboard` is not installed.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self.writer: Any = EventFileWriter(str(folder))
        if step:
            begun = SessionLog(status=SessionLog.START)
            self.writer.add_event(Event(wall_time=time.time(), step=step + 1, session_log=begun))

    def _write(self, record: Record, names: dict[str, str]) -> None:
        values = [
            self._summary.Value(tag=tag, simple_value=float(record[key]))
            for key, tag in names.items()
            if record[key] is not None
        ]
        summary = self._summary(value=values)
        event = self._event(wall_time=time.time(), step=record["step"], summary=summary)
        self.writer.add_event(event)

    def step(self, record: Record) -> None:
        names = {
            "loss": "train/loss",
            "lr": "train/lr",
            "grad_norm": "train/grad_norm",
            "tokens_per_second": "train/tokens_per_second",
        }
        self._write(record, names)

    def evaluation(self, record: Record) -> None:
        self._write(record, {"val_loss": "val/loss", "val_bits_per_byte": "val/bits_per_byte"})
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def loss_curve(records: Sequence[Record], path: Path, title: str = "") -> None:
    """Draw training and validation loss (nats per token) over steps into the PNG `path`.

    Raises:
        MissingDependency: matplotlib is not installed.
        CheckpointError: the disk is full or failing; an older picture is untouched.
    """
    try:
        # The object interface: no display, no global state, nothing left open.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependency("the loss curve needs matplotlib: pip install matplotlib") from None

    train = [(r["step"], r["loss"]) for r in records if "loss" in r]
    val = [(r["step"], r["val_loss"]) for r in records if "val_loss" in r]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if train:
        axes.plot(*zip(*train, strict=True), linewidth=0.8, alpha=0.7, label="training")
    if val:
        axes.plot(*zip(*val, strict=True), marker="o", markersize=3, label="validation")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    if train or val:
        axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_bytes(path, picture.getvalue())
