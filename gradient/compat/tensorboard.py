"""`utils.tensorboard.SummaryWriter`, by the writer of the `tensorboard` package."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from gradient.compat.tensorboard_values import (
    figure_array,
    histogram_fields,
    hparams_values,
    image_fields,
    pixels,
)
from gradient.errors import MissingDependency
from gradient.source_lines import warn_user

__all__ = ["SummaryWriter"]


class SummaryWriter:
    """Writes numbers, texts, histograms and images as event files.

    `tensorboard --logdir runs` shows them.
    """

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
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """One number of a curve. (`new_style` and `double_precision` have no effect.)"""
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

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: int | None = None,
        bins: Any = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """The distribution of values, a tensor or array of any shape, such as a weight's.

        Args:
            bins: "tensorflow" (limits that grow by a tenth), or what `numpy.histogram` takes.
            max_bins: has no effect.
        """
        histogram = self._summaries.HistogramProto(**histogram_fields(values, bins))
        self._add(global_step, walltime, {"tag": tag, "histo": histogram})

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """One image: floats from 0 to 1, or uint8. `dataformats` names its dimensions."""
        image = self._summaries.Summary.Image(**image_fields(pixels(img_tensor, dataformats)))
        self._add(global_step, walltime, {"tag": tag, "image": image})

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """A batch of images as one, in a grid of 8 columns."""
        self.add_image(tag, img_tensor, global_step, walltime, dataformats)

    def add_figure(
        self,
        tag: str,
        figure: Any,
        global_step: int | None = None,
        close: bool = True,
        walltime: float | None = None,
    ) -> None:
        """A figure of matplotlib, or a list of them, as an image; it is closed unless `close` is
        False."""
        self.add_image(tag, figure_array(figure, close), global_step, walltime, "HWC")

    def add_hparams(
        self,
        hparam_dict: dict[str, Any],
        metric_dict: dict[str, Any],
        hparam_domain_discrete: dict[str, list[Any]] | None = None,
        run_name: str | None = None,
        global_step: int | None = None,
    ) -> None:
        """Hyperparameters and the metrics they led to, a row of the HPARAMS tab. They are written
        to a folder of their own below `log_dir`, named `run_name`, by default the time."""
        domains = hparam_domain_discrete or {}
        with SummaryWriter(Path(self.log_dir, run_name or str(time.time()))) as writer:
            for value in hparams_values(hparam_dict, metric_dict, domains):
                writer._add(global_step, None, value)
            for name, metric in metric_dict.items():
                writer.add_scalar(name, metric, global_step)

    def add_graph(
        self,
        model: Any,
        input_to_model: Any = None,
        verbose: bool = False,
        use_strict_trace: bool = True,
    ) -> None:
        """Write nothing, with a warning: modules are not traced to graphs here."""
        warn_user("SummaryWriter.add_graph: there are no traced graphs here; nothing is written")

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
