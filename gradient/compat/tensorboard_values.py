"""What `SummaryWriter` writes of arrays: histograms, images as PNG, hyperparameters."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from gradient.errors import ArgumentError, ShapeError, TypeMismatch, sentence
from gradient.tensor import Tensor

__all__ = ["figure_array", "histogram_fields", "hparams_values", "image_fields", "pixels"]


def as_array(value: Any) -> np.ndarray:
    """Return a tensor, an array or a nested list as a NumPy array, in float64 if of floats."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.double() if value.dtype.is_floating_point else value
        return np.asarray(value.numpy())
    return np.asarray(value)


def default_bins() -> np.ndarray:
    """The limits of TensorFlow's histograms: each is 1.1 times the one before, on both sides of 0.

    Source: tensorflow/core/lib/histogram/histogram.cc.
    """
    count = math.ceil(math.log(1e20 / 1e-12, 1.1))
    positive = 1e-12 * 1.1 ** np.arange(count)
    return np.concatenate([-positive[::-1], [0.0], positive])


def histogram_fields(values: Any, bins: Any = "tensorflow") -> dict[str, Any]:
    """Return the fields of a HistogramProto: the counts of the finite and non-empty part of `bins`.

    `bins` is "tensorflow", or what `numpy.histogram` takes.
    """
    x = as_array(values).astype(np.float64).reshape(-1)
    if x.size == 0 or not np.isfinite(x).all():
        got = "none" if x.size == 0 else f"{int((~np.isfinite(x)).sum())} that are not finite"
        raise ArgumentError(sentence("add_histogram", "finite values, at least one", got))
    counts, limits = np.histogram(
        x, default_bins() if isinstance(bins, str) and bins == "tensorflow" else bins
    )
    filled = np.flatnonzero(counts)
    first, last = (int(filled[0]), int(filled[-1])) if filled.size else (0, len(counts) - 1)
    # A limit is the right end of its bin; an empty bin before the first gives that one's left end.
    return {
        "min": x.min(),
        "max": x.max(),
        "num": x.size,
        "sum": x.sum(),
        "sum_squares": x @ x,
        "bucket_limit": limits[first : last + 2].tolist(),
        "bucket": [0, *counts[first : last + 1].tolist()],
    }


def pixels(image: Any, dataformats: str) -> np.ndarray:
    """Return images as one of uint8, (H, W, 1, 3 or 4).

    Floats are from 0 to 1, uint8 from 0 to 255; values beyond are clipped. `dataformats` names the
    dimensions: "CHW", "HWC", "HW", or "NCHW" and the like, whose images become a grid of 8 columns.
    """
    x, names = as_array(image), dataformats.upper()
    if sorted(names) not in (sorted("HW"), sorted("CHW"), sorted("NCHW")) or len(names) != x.ndim:
        raise ShapeError(
            f"add_image: expected an image of dimensions {dataformats!r} (dataformats= names them, "
            f"such as 'CHW', 'HWC' or 'NCHW'), got shape {x.shape}"
        )
    x = x * 1.0 if x.dtype == np.uint8 else x.astype(np.float64) * 255.0
    x = np.moveaxis(x, [names.index(c) for c in sorted(names)], range(x.ndim))  # C, H, (N,) W
    if "C" not in names:
        x = x[None]
    if "N" in names:
        x = _grid(np.moveaxis(x, 2, 0))
    if x.shape[0] not in (1, 3, 4):
        raise ShapeError(
            f"add_image: expected 1, 3 or 4 channels, got {x.shape[0]} (dataformats is {names})"
        )
    return np.ascontiguousarray(np.moveaxis(x, 0, -1).clip(0, 255).astype(np.uint8))


def _grid(images: np.ndarray, columns: int = 8) -> np.ndarray:
    """Put images (N, C, H, W) side by side, (C, rows * H, columns * W)."""
    n, c, h, w = images.shape
    columns = min(n, columns)
    rows = math.ceil(n / columns)
    whole = np.zeros((rows * columns, c, h, w), images.dtype)
    whole[:n] = images
    ordered = whole.reshape(rows, columns, c, h, w).transpose(2, 0, 3, 1, 4)
    return ordered.reshape(c, rows * h, columns * w)


def image_fields(image: np.ndarray) -> dict[str, Any]:
    """Return the fields of a Summary.Image with (H, W, C) uint8 as PNG."""
    height, width, channels = image.shape
    color = {1: 0, 3: 2, 4: 6}[channels]  # PNG's color types
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row begins with its filter, 0
    rows[:, 1:] = image.reshape(height, -1)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes())),
        (b"IEND", b""),
    )
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    fields = {"height": height, "width": width, "colorspace": channels}
    return {**fields, "encoded_image_string": png}


def figure_array(figure: Any, close: bool) -> np.ndarray:
    """Draw a figure of matplotlib, or a list of them side by side; (H, W, 3) uint8."""
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn = []
    for each in figure if isinstance(figure, list) else [figure]:
        canvas = FigureCanvasAgg(each)
        canvas.draw()
        drawn.append(np.array(canvas.buffer_rgba())[..., :3])
        if close:
            plt.close(each)
    return pixels(np.stack(drawn), "NHWC")


def hparams_values(
    hparams: Mapping[str, Any], metrics: Mapping[str, Any], domains: Mapping[str, list[Any]]
) -> list[dict[str, Any]]:
    """Return the summary values that TensorBoard's HPARAMS tab reads, of a run that has ended."""
    from google.protobuf.struct_pb2 import ListValue
    from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    start = plugin_data_pb2.SessionStartInfo()
    infos = []
    for name, given in hparams.items():
        value = given.item() if isinstance(given, Tensor) else given
        if value is None:
            continue
        if isinstance(value, (bool, np.bool_)):
            kind, start.hparams[name].bool_value = "DATA_TYPE_BOOL", bool(value)
        elif isinstance(value, Real):
            kind, start.hparams[name].number_value = "DATA_TYPE_FLOAT64", float(value)
        elif isinstance(value, str):
            kind, start.hparams[name].string_value = "DATA_TYPE_STRING", value
        else:
            expected = f"a number, string, bool or None as {name!r}"
            raise TypeMismatch(sentence("add_hparams", expected, type(value).__name__))
        info = api_pb2.HParamInfo(name=name, type=api_pb2.DataType.Value(kind))
        if name in domains:
            listed = ListValue()
            listed.extend(domains[name])
            info.domain_discrete.CopyFrom(listed)
        infos.append(info)
    tags = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=name)) for name in metrics]
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.Status.Value("STATUS_SUCCESS"))
    parts = (
        (
            metadata.EXPERIMENT_TAG,
            "experiment",
            api_pb2.Experiment(hparam_infos=infos, metric_infos=tags),
        ),
        (metadata.SESSION_START_INFO_TAG, "session_start_info", start),
        (metadata.SESSION_END_INFO_TAG, "session_end_info", end),
    )
    values = []
    for tag, field, content in parts:
        data = plugin_data_pb2.HParamsPluginData(
            version=metadata.PLUGIN_DATA_VERSION, **{field: content}
        )
        plugin = SummaryMetadata.PluginData(
            plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString()
        )
        values.append({"tag": tag, "metadata": SummaryMetadata(plugin_data=plugin)})
    return values
