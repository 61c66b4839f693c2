"""The CUDA backend's Python, with arrays that keep CuPy's rules and kernels that run on the CPU.

The op table runs on it: its values, gradients and dtypes, and what it makes the host wait for.
"""

from __future__ import annotations

import operator
import shutil
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.backends.composed.decompositions import DecompositionDefaults
from gradient.backends.cuda.backend import CudaBackend
from gradient.backends.cuda.copies import WALK
from gradient.backends.cuda.indexed import PICKS
from gradient.backends.cuda.launching import COUNT
from gradient.backends.cuda.optimizers import TENSORS
from gradient.backends.cuda.runtime import CupyRuntime
from gradient.backends.options import AttentionOptions
from gradient.backends.packed import parts_of
from gradient.nn import functional as F  # noqa: N812
from gradient.testing import TABLE, Row, assert_close
from support import fake_cupy
from support.agreement import agree
from support.backend_table import BARE
from support.cuda_emulation import EmulatedRuntime
from support.fake_device import DEVICE, fake_backend

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

EPS = {"float64": 2.2e-16, "float32": 1.2e-7, "float16": 9.8e-4, "bfloat16": 7.8e-3}


@pytest.fixture(autouse=True)
def _no_waits() -> Iterator[None]:
    fake_cupy.waits.clear()
    yield
    fake_cupy.waits.clear()


def tensors(row: Row, dtype: str | None = None, **options: Any) -> list[gradient.Tensor]:
    return [
        gradient.tensor(a, dtype=dtype if a.dtype.kind == "f" else None, device=DEVICE, **options)
        for a in row.samples()
    ]


def host(t: gradient.Tensor) -> np.ndarray:
    return t.backend.to_numpy(t.array)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_values(row: Row) -> None:
    out = row.run(*tensors(row))
    assert isinstance(out.array, fake_cupy.ndarray)
    expected = np.asarray(row.reference(*row.samples()))
    assert_close(host(out), expected, rtol=1e-11, atol=1e-11, check_dtype=False)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("row", [r for r in TABLE if r.kind == "float"], ids=lambda row: row.name)
def test_dtypes(row: Row, dtype: str) -> None:
    """Values, and the gradients' dtypes: nothing is widened on the way."""
    inputs = tensors(row, dtype, requires_grad=row.differentiable)
    out = row.run(*inputs)
    if out.dtype.is_floating_point and row.op != "astype":
        assert str(out.dtype) == f"gradient.{dtype}"
    expected = np.asarray(row.reference(*(host(t).astype(np.float64) for t in inputs)))
    limit = row.tolerance * EPS[dtype]
    assert_close(host(out).astype(np.float64), expected.astype(np.float64), rtol=limit, atol=limit)
    if row.differentiable:
        out.sum().backward()
        for t in inputs:
            assert t.grad is None or t.grad.array.dtype == t.array.dtype


# Waiting for the device ---------------------------------------------------------------------------

WAIT = {
    # how many elements there are is known on the device alone
    *("compress", "getitem[mask]"),
    # decomposed on the host
    *(row.name for row in TABLE if row.op in {*vars(DecompositionDefaults), "svdvals", "eigvalsh"}),
    # steps until all elements have converged
    *("gammainc", "gammaincc"),
}


def test_which_ops_wait_for_the_device() -> None:
    """Any other op only queues its work, forward and backward."""
    waiting = set()
    for row in TABLE:
        inputs = tensors(row, requires_grad=row.differentiable)
        fake_cupy.waits.clear()
        out = row.run(*inputs)
        if row.differentiable:
            out.backward(gradient.ones_like(out))
        if fake_cupy.waits:
            waiting.add(row.name)
    assert waiting == WAIT


def test_8_bit_floats_are_made_joined_and_compared_without_a_wait() -> None:
    kind = gradient.float8_e5m2
    x = gradient.full((2, 3), 1.3, dtype=kind, device=DEVICE)
    x[0] = 500.0
    both = gradient.cat([x, gradient.zeros(1, 3, dtype=kind, device=DEVICE)]).repeat(1, 2)
    equal, ones = both[:, None] == both, both == 1.25
    assert fake_cupy.waits == []
    assert both.tolist() == [[512.0] * 6, [1.25] * 6, [0.0] * 6]
    assert equal[..., 0].tolist() == [[i == j for j in range(3)] for i in range(3)]
    assert ones.tolist() == [[False] * 6, [True] * 6, [False] * 6]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "q8_0"])
def test_a_copy_to_the_cpu_need_not_be_waited_for(dtype: str) -> None:
    x = np.arange(64, dtype=np.float32).reshape(2, 32)
    t = gradient.tensor(x)
    t = gradient.quantization.quantize(t, dtype) if dtype == "q8_0" else t.to(dtype=dtype)
    on_device = t.to(DEVICE)
    fake_cupy.waits.clear()
    copies = [
        on_device.to("cpu", non_blocking=True),
        on_device.to("cpu", None, True),
        on_device.to(device="cpu", non_blocking=True),
    ]
    assert fake_cupy.waits == []
    assert t.to(DEVICE, non_blocking=True).device == gradient.device(DEVICE)
    assert fake_cupy.waits == []
    plain = on_device.to("cpu")
    assert len(fake_cupy.waits) == 1
    for copy in (*copies, plain):
        assert copy.device == gradient.device("cpu")
        for got, expected in zip(parts_of(copy.array), parts_of(t.array), strict=True):
            np.testing.assert_array_equal(got, expected)


class Model(nn.Module):
    """A language model of one layer, in small."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.head = nn.Linear(8, 11)

    def forward(self, tokens: gradient.Tensor) -> gradient.Tensor:
        x = self.embed(tokens)
        q, k, v = self.qkv(self.norm(x)).reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + F.dropout(out.transpose(1, 2).reshape(2, 5, 8), 0.1)
        return self.head(F.gelu(x))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_training_step_waits_for_nothing(dtype: str) -> None:
    model = Model().to(DEVICE, getattr(gradient, dtype))
    optimizer = gradient.optim.AdamW(model.parameters(), lr=0.05)
    tokens = gradient.tensor(np.arange(10).reshape(2, 5), device=DEVICE)
    losses = []
    for step in range(4):
        fake_cupy.waits.clear()
        loss = F.cross_entropy(model(tokens).reshape(-1, 11), (tokens.reshape(-1) + 1) % 11)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert fake_cupy.waits == [], step
        losses.append(loss)
    assert losses[-1].item() < losses[0].item()


# What CuPy has for some types only ----------------------------------------------------------------

NUMBERS = "?bBhilefdFD"


@pytest.mark.parametrize("dtype", [*map(np.dtype, NUMBERS), fake_cupy.BFLOAT16], ids=str)
def test_index_add(dtype: np.dtype) -> None:
    be, index = fake_backend(0), np.array([2, 0, 2, 2])
    start, value = (np.arange(n).reshape(-1, 3) % 5 for n in (12, 12))
    got = be.asarray(start.astype(dtype))
    out = be.index_add(got[::-1], (be.asarray(index),), be.asarray(value.astype(dtype)))
    expected = start.astype(dtype)
    np.add.at(expected[::-1], (index,), value.astype(dtype))
    assert out.dtype == dtype
    np.testing.assert_array_equal(be.to_numpy(got), expected)


def test_small_integers_wrap_when_they_are_added() -> None:
    be = fake_backend(0)
    out = be.index_add(
        be.asarray(np.array([250, 1], np.uint8)), ([0, 0],), be.asarray(np.array([9, 9], np.uint8))
    )
    assert be.to_numpy(out).tolist() == [12, 1]


# What a kernel does not take ----------------------------------------------------------------------


def test_targets_of_32_bits_are_left_to_the_default() -> None:
    be = CudaBackend(0, EmulatedRuntime())
    logits = np.linspace(-1, 1, 15, dtype=np.float32).reshape(3, 5)
    target, g = np.array([4, 0, 2], np.int32), np.ones(3, np.float32)
    _, high, log_sum = BARE.cross_entropy(logits, target, -100, 0.0)
    got = be.cross_entropy_grad(g, logits, target, high, log_sum, -100, 0.0)
    expected = BARE.cross_entropy_grad(g, logits, target, high, log_sum, -100, 0.0)
    agree([got], [expected], "float32", "cross_entropy_grad")


@pytest.mark.parametrize("shape", [(2, 1, 3, 2), (1, 1, 4, 2)], ids=("more", "other rows"))
def test_angles_of_another_shape_are_left_to_the_default(shape: tuple[int, ...]) -> None:
    be, angles = CudaBackend(0, EmulatedRuntime()), np.linspace(0, 1, int(np.prod(shape)))
    x, cos, sin = np.ones((1, 2, 3, 4)), np.cos(angles).reshape(shape), angles.reshape(shape)
    try:
        expected = BARE.rope(x, cos, sin)
    except ValueError:
        with pytest.raises(ValueError, match="broadcast"):
            be.rope(x, cos, sin)
    else:
        np.testing.assert_array_equal(be.rope(x, cos, sin), expected)
    assert be.runtime.launched == []


def test_attention_that_fits_no_block_is_left_to_the_default() -> None:
    """Float64 rows of 240 need 181 KiB of shared memory in the gradient: more than an A100 has."""
    draw = np.random.default_rng(0).standard_normal
    q, k, v = (draw((1, 1, 3, 240)) for _ in range(3))
    launched = []
    for room in (227 << 10, 163 << 10, 48 << 10):
        be = CudaBackend(0, EmulatedRuntime())
        be.runtime.max_shared = room
        options = AttentionOptions(scale=1 / 16)
        out, high, log_sum = be.attention(q, k, v, None, options)
        be.attention_grad(out, q, k, v, out, high, log_sum, None, options)
        launched.append({name.rpartition("_")[0] for name in be.runtime.launched})
    forward, backward = "attention_256", "attention_grad_query_256"
    assert [(forward in names, backward in names) for names in launched] == [
        (True, True),
        (True, False),
        (False, False),
    ]


# Launches through CuPy ----------------------------------------------------------------------------


class Kernel:
    ptr = 7

    def __init__(self, calls: list[Any]):
        self.calls = calls

    def __call__(self, grid: Any, block: Any, values: Any, shared_mem: int) -> None:
        self.calls.append(("launch", shared_mem))


class Device:
    """CuPy's modules as far as a launch needs them, with another device that is current."""

    def __init__(self, calls: list[Any], current: int):
        self.calls, self.current = calls, current
        self.cuda = self.runtime = self.driver = self

    def getDevice(self) -> int:  # noqa: N802
        return self.current

    def funcSetAttribute(self, *given: int) -> None:  # noqa: N802
        self.calls.append(given)

    def Device(self, index: int) -> Device:  # noqa: N802
        self.calls.append(("use", index))
        self.before, self.current = self.current, index
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.current = self.before
        self.calls.append("back")


class Module:
    """CuPy's module of kernels."""

    def __init__(self, calls: list[Any]):
        self.calls = calls

    def get_function(self, name: str) -> Kernel:
        self.calls.append(("get", name))
        return Kernel(self.calls)


def _runtime(index: int, current: int) -> tuple[CupyRuntime, list[Any]]:
    calls: list[Any] = []
    made = CupyRuntime.__new__(CupyRuntime)
    made.index, made.count, made.xp = index, 2, Device(calls, current)
    made._current_device = made.xp.getDevice
    made._functions, made._shared_allowed = {"k_float32": Kernel(calls)}, {}
    made._lock, made.integer = threading.Lock(), int
    made._device = types.SimpleNamespace(use=lambda: calls.append("context"))
    return made, calls


def test_a_copy_that_is_not_waited_for_goes_to_pinned_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime: Any
    runtime, calls = _runtime(0, 0)
    pinned: Any = types.ModuleType("cupyx")
    pinned.empty_pinned = lambda shape, dtype: np.empty(shape, dtype)
    monkeypatch.setitem(sys.modules, "cupyx", pinned)

    def asnumpy(x: Any, out: np.ndarray, blocking: bool) -> np.ndarray:
        calls.append(blocking)
        out[...] = x
        return out

    runtime.xp.asnumpy = asnumpy
    runtime.in_flight = types.SimpleNamespace(keep=calls.append)
    x = np.arange(6.0).reshape(2, 3)
    copy = runtime.queue_to_numpy(x)
    np.testing.assert_array_equal(copy, x)
    assert calls[0] is False and calls[1] is copy
    other = np.empty((2, 3))
    assert runtime.queue_to_numpy(x, other) is other
    np.testing.assert_array_equal(other, x)


def test_shared_memory_is_asked_for_whatever_a_kernel_declares_itself() -> None:
    """47 KiB beside 2 KiB that the source declares are above what a kernel has unasked."""
    runtime, calls = _runtime(0, 0)
    for shared in (0, 47 << 10, 30 << 10, 60 << 10):
        runtime.launch("f", "k", "float32", (1,), 32, None, shared=shared)
    assert calls == [
        ("launch", 0),
        *["context", (7, 8, 47 << 10), ("launch", 47 << 10)],
        ("launch", 30 << 10),
        *["context", (7, 8, 60 << 10), ("launch", 60 << 10)],
    ]


def test_a_kernel_is_loaded_in_a_thread_that_has_the_context() -> None:
    """The driver's functions, unlike the runtime's, do not make it current by themselves."""
    runtime, calls = _runtime(0, 0)
    runtime._modules = {("f", "float32"): Module(calls)}
    runtime._functions.clear()
    runtime.launch("f", "k", "float32", (1,), 32, None)
    assert calls == ["context", ("get", "k_float32"), ("launch", 0)]


def test_a_structure_goes_by_value() -> None:
    """By where it lies, as what CuPy takes for a pointer; the rest as it came."""
    runtime, _ = _runtime(0, 0)
    kept: list[Any] = []
    runtime._functions = {"k_float32": lambda grid, block, values, shared: kept.extend(values)}
    runtime._pointer = lambda address: ("at", address)
    told = [np.zeros(1, kind) for kind in (PICKS, WALK, TENSORS, COUNT)]
    runtime.launch("f", "k", "float32", (1,), 32, None, *told, 3, np.float32(2))
    assert kept == [None, *(("at", each.ctypes.data) for each in told), 3, np.float32(2)]


def test_the_address_of_a_tensor_is_that_on_the_device() -> None:
    x = gradient.arange(6, device=DEVICE)
    assert x[2:].data_ptr() == x.data_ptr() + 16 == x.array.data.ptr + 16
    assert x.to(gradient.float8_e5m2).data_ptr() > 0
    assert fake_cupy.waits == []


def test_a_kernel_is_launched_on_its_own_device() -> None:
    """In a thread whose current device is another: each thread begins with the first."""
    runtime, calls = _runtime(1, 0)
    runtime.launch("f", "k", "float32", (1,), 32, None)
    assert calls == [("use", 1), ("launch", 0), "back"]


# Writing, of which CuPy's threads keep no order ---------------------------------------------------


def test_what_is_read_and_written_is_copied_first() -> None:
    x = gradient.arange(6.0, device=DEVICE)
    x[1:] = x[:-1]
    assert x.tolist() == [0, 0, 1, 2, 3, 4]
    x[:-1].copy_(x[1:])
    assert x.tolist() == [0, 1, 2, 3, 4, 4]
    square = gradient.arange(4.0, device=DEVICE).reshape(2, 2)
    square.copy_(square.T)
    assert square.tolist() == [[0, 2], [1, 3]]


def test_of_several_numbers_for_one_place_the_last_stays() -> None:
    x = gradient.zeros(2, 3, device=DEVICE)
    index = gradient.tensor([[0, 0, 1], [2, 2, 2]], device=DEVICE)
    fake_cupy.waits.clear()
    x.scatter_(1, index, gradient.arange(1.0, 7, device=DEVICE).reshape(2, 3))
    assert fake_cupy.waits == []
    assert x.tolist() == [[2, 3, 0], [0, 0, 6]]


def test_what_shows_an_element_twice_is_not_written() -> None:
    x = gradient.ones(1, 3, device=DEVICE).expand(2, 3)
    for write in (
        lambda: x.add_(1),
        lambda: x.__setitem__((slice(None), 1), gradient.ones(2, device=DEVICE)),
        lambda: x.__setitem__(
            gradient.tensor([0, 1], device=DEVICE), gradient.ones(2, 3).to(DEVICE)
        ),
        lambda: gradient.arange(5.0, device=DEVICE).unfold(0, 3, 1).mul_(2),
        lambda: operator.iadd(x, 1),
        lambda: operator.imul(x.detach(), x.detach()),
        lambda: operator.iadd(gradient.arange(5.0, device=DEVICE).unfold(0, 3, 1), 1),
    ):
        with pytest.raises(RuntimeError, match="clone"):
            write()
        with gradient.no_grad(), pytest.raises(RuntimeError, match="clone"):
            write()
    x[1] = gradient.tensor([1.0, 2.0, 3.0], device=DEVICE)
    assert x.tolist() == [[1, 2, 3]] * 2
    x.fill_(4)
    assert x.tolist() == [[4] * 3] * 2


def test_views_by_strides_are_known_as_views() -> None:
    """Of which CuPy says no base: what is written to them is written to the tensor."""
    for device in ("cpu", DEVICE):
        x = gradient.arange(4.0, device=device, requires_grad=True)
        whole = x * 1
        whole.unfold(0, 2, 2).mul_(2)
        whole.sum().backward()
        assert x.grad is not None and x.grad.tolist() == [2, 2, 2, 2]
        z = gradient.ones(2, dtype=gradient.complex64, device=device, requires_grad=True)
        parts = z * 1
        gradient.view_as_real(parts).mul_(3)
        gradient.view_as_real(parts).sum().backward()
        assert z.grad is not None and z.grad.tolist() == [3 + 3j, 3 + 3j]
        y = gradient.ones(3, device=device, requires_grad=True)
        out = (y * 1).exp()
        squared = out * out
        out.detach().as_strided((2,), (1,)).zero_()
        with pytest.raises(RuntimeError, match="overwrote it in place"):
            squared.sum().backward()
        assert "ToDevice" in repr(y.to("meta").grad_fn)


@pytest.mark.parametrize("shape", [((3, 0), (2, 1)), ((0, 3), (2, 3))])
def test_a_write_at_an_index_of_nothing(shape: tuple[tuple[int, int], tuple[int, int]]) -> None:
    size, given = shape
    x = gradient.zeros(size, device=DEVICE)
    index: gradient.Tensor | slice = gradient.tensor([1, 0], device=DEVICE)
    if size[0]:
        x[index] = gradient.ones(given, device=DEVICE)
    else:
        x[:, index] = gradient.ones((1, 2), device=DEVICE)
    assert x.shape == size


def test_nothing_is_reduced_along_what_is_there() -> None:
    x = gradient.zeros(0, 3, 2, device=DEVICE)
    assert (x.amax(1).shape, x.argmax(2).shape) == ((0, 2), (0, 3))
    assert gradient.fft.fftn(x.to(gradient.complex64), dim=(1, 2)).shape == (0, 3, 2)
    with pytest.raises((RuntimeError, IndexError)):
        x.amax(0)
