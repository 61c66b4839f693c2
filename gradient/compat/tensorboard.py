"""`utils.tensorboard.SummaryWriter`, by the writer of the `tensorboard` package."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from gradient.errors import MissingDependency

__all__ = ["SummaryWriter"]


class SummaryWriter:
    """Writes numbers and texts as event files, for `tensorboard --logdir runs`."""

    def __init__(
        self,
        log_dir: str | Path | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: int = 120,
        filename_suffix: str = "",
    ) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
            from tensorboard.compat.proto.types_pb2 import DT_STRING
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            fix = "pip install tensorboard"
            raise MissingDependency(f"SummaryWriter: needs tensorboard; {fix}") from None
        self.log_dir = str(log_dir or Path("runs", f"{datetime.now():%b%d_%H-%M-%S}{comment}"))
        self._events, self._summaries = event_pb2, summary_pb2
        self._tensors, self._string = tensor_pb2, DT_STRING
        self._writer = EventFileWriter(self.log_dir, max_queue, flush_secs, filename_suffix)

    def get_logdir(self) -> str:
        return self.log_dir

    def _add(self, step: int | None, walltime: float | None, value: dict[str, Any]) -> None:
        summary = self._summaries.Summary(value=[self._summaries.Summary.Value(**value)])
        now = time.time() if walltime is None else walltime
        step = 0 if step is None else int(step)
        self._writer.add_event(self._events.Event(wall_time=now, step=step, summary=summary))

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """One number of a curve."""
        self._add(global_step, walltime, {"tag": tag, "simple_value": float(scalar_value)})

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: dict[str, Any],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """A number of each of several curves, `main_tag/name`."""
        for name, value in tag_scalar_dict.items():
            self.add_scalar(f"{main_tag}/{name}", value, global_step, walltime)

    def add_text(
        self,
        tag: str,
        text_string: str,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """A text (Markdown)."""
        plugin = self._summaries.SummaryMetadata.PluginData(plugin_name="text")
        metadata = self._summaries.SummaryMetadata(plugin_data=plugin)
        text = self._tensors.TensorProto(dtype=self._string, string_val=[text_string.encode()])
        value = {"tag": f"{tag}/text_summary", "metadata": metadata, "tensor": text}
        self._add(global_step, walltime, value)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
