"""`utils.tensorboard.SummaryWriter`: its event files as TensorBoard reads them."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import gradient


def test_summary_writer_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]
    for name in {"tensorboard", *loaded}:
        monkeypatch.setitem(sys.modules, name, None)
    from gradient.utils.tensorboard import SummaryWriter  # type: ignore[import-not-found]

    with pytest.raises(ImportError, match="pip install tensorboard"):
        SummaryWriter()


def test_summary_writer_writes_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from gradient.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("loss", gradient.tensor(1.5), 3)
        writer.add_scalars("both", {"a": 1, "b": 2}, 4)
        writer.add_text("note", "hello")
    (events,) = tmp_path.iterdir()
    content = events.read_bytes()
    for word in (b"loss", b"both/a", b"both/b", b"note/text_summary", b"hello"):
        assert word in content


@pytest.fixture
def writer(tmp_path):
    pytest.importorskip("tensorboard")
    from gradient.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        yield writer


def values_of(folder: Path) -> dict:
    """The summary values of all event files below a folder, by tag."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.rglob("events*")):
        for raw in RawEventFileLoader(str(path)).Load():
            found.update((v.tag, v) for v in Event.FromString(raw).summary.value)
    return found


def decoded(image) -> np.ndarray:
    """The pixels of a PNG without row filters, (H, W, C)."""
    data = image.encoded_image_string
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")
    rows = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8)
    rows = rows.reshape(image.height, -1)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape(image.height, image.width, image.colorspace)


HISTOGRAMS = {
    "normal": np.random.default_rng(0).standard_normal(1000),
    "one value": np.full(5, 0.5),
    "zeros": np.zeros(3),
    "both signs": np.array([-3.0, 0.0, 1e-13, 1e10]),
    "integers": np.arange(10),
}


@pytest.mark.parametrize("bins", ["tensorflow", 7, "auto"])
@pytest.mark.parametrize("values", HISTOGRAMS.values(), ids=HISTOGRAMS.keys())
def test_a_histogram(writer, tmp_path, values, bins):
    writer.add_histogram("h", gradient.tensor(values), 3, bins=bins)
    writer.flush()
    histogram = values_of(tmp_path)["h"].histo
    assert histogram.num == values.size == sum(histogram.bucket)
    assert (histogram.min, histogram.max) == (values.min(), values.max())
    np.testing.assert_allclose(histogram.sum_squares, (values.astype(float) ** 2).sum())
    limits = np.array(histogram.bucket_limit)
    assert len(limits) == len(histogram.bucket) and (np.diff(limits) > 0).all()
    assert limits[0] <= values.min() and values.max() <= limits[-1]


@pytest.mark.parity
@pytest.mark.parametrize("values", HISTOGRAMS.values(), ids=HISTOGRAMS.keys())
def test_a_histogram_beside_pytorch(writer, tmp_path, values):
    summary = pytest.importorskip("torch.utils.tensorboard.summary")
    torch_writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter(tmp_path / "t")
    writer.add_histogram("h", values)
    writer.flush()
    (theirs,) = summary.histogram("h", values, torch_writer.default_bins).value
    ours = values_of(tmp_path)["h"].histo
    assert list(ours.bucket) == list(theirs.histo.bucket)
    np.testing.assert_allclose(ours.bucket_limit, theirs.histo.bucket_limit, rtol=1e-9)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_a_histogram_of_nothing_or_of_infinities_is_refused(writer, values):
    with pytest.raises(ValueError, match="add_histogram: expected finite values"):
        writer.add_histogram("h", gradient.tensor(values))


def test_images_in_any_order_of_dimensions(writer, tmp_path):
    image = gradient.rand(3, 4, 5, dtype=gradient.float16)
    expected = (image.double().permute(1, 2, 0) * 255).numpy().astype(np.uint8)
    writer.add_image("chw", image)
    writer.add_image("hwc", image.permute(1, 2, 0).numpy(), dataformats="HWC")
    writer.add_image("hw", gradient.tensor([[0.0, 2.0], [-1.0, 0.5]]), dataformats="HW")
    writer.add_image("bytes", gradient.arange(12, dtype=gradient.uint8).reshape(1, 3, 4))
    writer.add_images("grid", image.expand(10, 3, 4, 5))
    writer.flush()
    found = {tag: decoded(value.image) for tag, value in values_of(tmp_path).items()}
    np.testing.assert_array_equal(found["chw"], expected)
    np.testing.assert_array_equal(found["hwc"], expected)
    assert found["hw"][..., 0].tolist() == [[0, 255], [0, 127]]
    assert found["bytes"][..., 0].tolist() == np.arange(12).reshape(3, 4).tolist()
    assert found["grid"].shape == (8, 40, 3)
    np.testing.assert_array_equal(found["grid"][4:, 5:10], expected)
    assert not found["grid"][4:, 10:].any()


@pytest.mark.parametrize(
    ("shape", "formats", "match"),
    [((4, 5), "CHW", "of dimensions 'CHW'.*got shape \\(4, 5\\)"), ((2, 4, 5), "CHW", "got 2")],
)
def test_an_image_of_another_shape_is_refused(writer, shape, formats, match):
    with pytest.raises(ValueError, match=match):
        writer.add_image("x", gradient.zeros(shape), dataformats=formats)


def test_a_figure(writer, tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    figure = plt.figure(figsize=(1, 2), dpi=50)
    writer.add_figure("f", figure)
    writer.flush()
    assert decoded(values_of(tmp_path)["f"].image).shape == (100, 50, 3)
    assert not plt.fignum_exists(figure.number)


def test_hyperparameters(writer, tmp_path):
    from tensorboard.plugins.hparams import metadata

    settings = {"lr": gradient.tensor(0.5), "name": "a", "fused": True, "seed": None}
    settings["n"] = np.int64(3)
    writer.add_hparams(settings, {"loss": 0.25}, {"name": ["a", "b"]}, run_name="first")
    found = values_of(tmp_path / "first")
    assert found["loss"].simple_value == 0.25
    content = found[metadata.SESSION_START_INFO_TAG].metadata.plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content).hparams
    assert (start["lr"].number_value, start["n"].number_value) == (0.5, 3)
    assert start["name"].string_value == "a" and start["fused"].bool_value is True
    content = found[metadata.EXPERIMENT_TAG].metadata.plugin_data.content
    experiment = metadata.parse_experiment_plugin_data(content)
    assert [info.name for info in experiment.hparam_infos] == ["lr", "name", "fused", "n"]
    assert [metric.name.tag for metric in experiment.metric_infos] == ["loss"]
    with pytest.raises(TypeError, match="as 'sizes', got list"):
        writer.add_hparams({"sizes": [1, 2]}, {})


def test_a_graph_is_not_written(writer):
    with pytest.warns(UserWarning, match="no traced graphs"):
        writer.add_graph(gradient.nn.Linear(1, 1), gradient.ones(1))
