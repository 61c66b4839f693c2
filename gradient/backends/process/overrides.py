"""Methods that a plugin may implement as ops, instead of their composed definitions.

Each is one message if the plugin lists its op, and the arrays have one dtype: float32 or a 16-bit
float. Other cases use the composed definition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradient.backends.base import Backend
from gradient.backends.options import AdamWOptions, AttentionOptions
from gradient.backends.packed import PackedArray, is_packed
from gradient.backends.process.backend import ProcessBackend
from gradient.backends.process.handle import Handle, ids, op, ops
from gradient.backends.process.protocol import NAMES
from gradient.backends.required import Shape
from gradient.dtypes import HALF_PRECISION, float32, uint32

FLOAT32 = float32.numpy
DTYPES = HALF_PRECISION | {FLOAT32}

Definition: Any = Backend
"""The composed definitions, for cases that are not sent to a plugin."""

OVERRIDES: dict[str, Callable[..., Any]] = {}
"""By method name, which is also the op's name."""


def override(method: Callable[..., Any]) -> Callable[..., Any]:
    OVERRIDES[method.__name__] = method
    return method


def alike(*arrays: Handle | None) -> bool:
    """Whether all arrays (None is ignored) have one dtype in which plugins compute."""
    dtypes = {x.dtype for x in arrays if x is not None}
    return len(dtypes) == 1 and dtypes <= DTYPES


def rows(x: Handle) -> Shape:
    """The shape of a statistic with one number for each row of x."""
    return (*x.shape[:-1], 1)


# Elementwise -------------------------------------------------------------------------------------


def _elementwise(name: str, gradient: bool = False) -> None:
    def method(self: ProcessBackend, *given: Any, **options: Any) -> Any:
        arrays, rest = given[: 1 + gradient], given[1 + gradient :]
        if not alike(*arrays) or (gradient and arrays[0].shape != arrays[1].shape):
            return getattr(Definition, name)(self, *given, **options)
        if name.startswith("gelu"):
            options = {"approximate": rest[0] if rest else options.get("approximate", "none")}
        return op(self.client, name, arrays[0].shape, arrays[0].dtype, arrays, options)

    method.__name__ = name
    override(method)


for _name in ("sigmoid", "silu", "relu", "gelu", "erf", "expm1", "log1p"):
    _elementwise(_name)
for _name in ("silu_grad", "gelu_grad"):
    _elementwise(_name, gradient=True)


# Along an axis -----------------------------------------------------------------------------------


def _softmax(name: str, gradient: bool = False) -> None:
    def method(self: ProcessBackend, *given: Any) -> Any:
        *arrays, axis = given
        x = arrays[0]
        if not isinstance(axis, int) or not alike(*arrays) or 0 in x.shape or not x.shape:
            return getattr(Definition, name)(self, *given)
        return op(self.client, name, x.shape, x.dtype, arrays, {"axis": axis % len(x.shape)})

    method.__name__ = name
    override(method)


for _name in ("softmax", "log_softmax"):
    _softmax(_name)
    _softmax(f"{_name}_grad", gradient=True)


@override
def cross_entropy(
    self: ProcessBackend, logits: Handle, target: Handle, ignore_index: int, label_smoothing: float
) -> Any:
    if not alike(logits) or 0 in logits.shape:
        return Definition.cross_entropy(self, logits, target, ignore_index, label_smoothing)
    n = logits.shape[:1]
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
    results = [(n, logits.dtype), (n, FLOAT32), (n, FLOAT32)]
    return ops(self.client, "cross_entropy", results, (logits, target), options)


@override
def cross_entropy_grad(
    self: ProcessBackend, g: Handle, logits: Handle, target: Handle, high: Handle, log_sum: Handle,
    ignore_index: int, label_smoothing: float,
) -> Any:  # fmt: skip
    given = (g, logits, target, high, log_sum)
    if not alike(logits) or 0 in logits.shape:
        return Definition.cross_entropy_grad(self, *given, ignore_index, label_smoothing)
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
    return op(self.client, "cross_entropy_grad", logits.shape, logits.dtype, given, options)


# Norms -------------------------------------------------------------------------------------------


@override
def layer_norm(
    self: ProcessBackend, x: Handle, weight: Handle | None, bias: Handle | None, eps: float
) -> Any:
    if not alike(x, weight, bias) or 0 in x.shape:
        return Definition.layer_norm(self, x, weight, bias, eps)
    results = [(x.shape, x.dtype), (rows(x), FLOAT32), (rows(x), FLOAT32)]
    return ops(self.client, "layer_norm", results, (x, weight, bias), {"eps": eps})


@override
def layer_norm_grad(
    self: ProcessBackend, g: Handle, x: Handle, weight: Handle | None, mean: Handle, rstd: Handle
) -> Any:
    if not alike(g, x, weight) or 0 in x.shape:
        return Definition.layer_norm_grad(self, g, x, weight, mean, rstd)
    d = x.shape[-1:]
    results = [(x.shape, g.dtype), (d, FLOAT32), (d, FLOAT32)]
    gx, gw, gb = ops(self.client, "layer_norm_grad", results, (g, x, weight, mean, rstd), {})
    return gx, None if weight is None else gw, gb


@override
def rms_norm(
    self: ProcessBackend, x: Handle, weight: Handle | None, eps: float, round_first: bool = False
) -> Any:
    if not alike(x, weight) or 0 in x.shape:
        return Definition.rms_norm(self, x, weight, eps, round_first)
    options = {"eps": eps, "round_first": round_first}
    return ops(
        self.client, "rms_norm", [(x.shape, x.dtype), (rows(x), FLOAT32)], (x, weight), options
    )


@override
def rms_norm_grad(
    self: ProcessBackend, g: Handle, x: Handle, weight: Handle | None, rstd: Handle
) -> Any:
    if not alike(g, x, weight) or 0 in x.shape:
        return Definition.rms_norm_grad(self, g, x, weight, rstd)
    results = [(x.shape, g.dtype), (x.shape[-1:], FLOAT32)]
    gx, gw = ops(self.client, "rms_norm_grad", results, (g, x, weight, rstd), {})
    return gx, None if weight is None else gw


# Transformers ------------------------------------------------------------------------------------


@override
def linear(self: ProcessBackend, x: Handle, weight: Any, bias: Handle | None = None) -> Any:
    if is_packed(weight) or not alike(x, weight, bias) or 0 in x.shape or len(x.shape) < 1:
        return Definition.linear(self, x, weight, bias)
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(f"linear: shapes {x.shape} and {weight.shape} do not go together")
    shape = (*x.shape[:-1], weight.shape[0])
    return op(self.client, "linear", shape, x.dtype, (x, weight, bias))


@override
def embedding(self: ProcessBackend, weight: Any, indices: Handle) -> Any:
    if is_packed(weight) or not alike(weight) or 0 in (*weight.shape, *indices.shape):
        return ProcessBackend.embedding(self, weight, indices)
    shape = (*indices.shape, weight.shape[1])
    return op(self.client, "embedding", shape, weight.dtype, (weight, indices))


@override
def rope(
    self: ProcessBackend, x: Handle, cos: Handle, sin: Handle, interleaved: bool = False
) -> Any:
    if not alike(x) or 2 * cos.shape[-1] > x.shape[-1] or 0 in x.shape:
        return Definition.rope(self, x, cos, sin, interleaved)
    return op(self.client, "rope", x.shape, x.dtype, (x, cos, sin), {"interleaved": interleaved})


def _attends(q: Handle, k: Handle, v: Handle) -> bool:
    return alike(q, k, v) and 0 not in (*q.shape, *k.shape, *v.shape)


@override
def attention(
    self: ProcessBackend, q: Handle, k: Handle, v: Handle, mask: Handle | None = None,
    options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
) -> Any:  # fmt: skip
    if not _attends(q, k, v):
        return Definition.attention(self, q, k, v, mask, options)
    row = (*q.shape[:3], 1)
    results = [((*q.shape[:3], v.shape[-1]), q.dtype), (row, FLOAT32), (row, FLOAT32)]
    return ops(self.client, "attention", results, (q, k, v, mask), options._asdict())


@override
def attention_grad(
    self: ProcessBackend, g: Handle, q: Handle, k: Handle, v: Handle, out: Handle, high: Handle,
    log_sum: Handle, mask: Handle | None = None,
    options: AttentionOptions = AttentionOptions(),  # noqa: B008 (frozen)
) -> Any:  # fmt: skip
    given = (g, q, k, v, out, high, log_sum, mask)
    if not _attends(q, k, v) or not alike(g, q):
        return Definition.attention_grad(self, *given, options)
    results = [(q.shape, g.dtype), (k.shape, FLOAT32), (v.shape, FLOAT32)]
    return ops(self.client, "attention_grad", results, given, options._asdict())


# Packed weights: the op's name has the format, "quantized_matmul:q4_0" ----------------------------


def _quantized(self: ProcessBackend, name: str, x: Handle, weight: PackedArray) -> Handle | None:
    asked = f"{name}:{weight.dtype.name}"
    axis, other = (1, 0) if name == "quantized_matmul" else (0, 1)
    if asked not in self.client.ops or not alike(x) or len(weight.shape) != 2 or not x.shape:
        return None
    if x.shape[-1] != weight.shape[axis] or 0 in x.shape:
        return None
    shape = (*x.shape[:-1], weight.shape[other])
    return op(self.client, asked, shape, x.dtype, (x, *weight.parts))


def quantized_matmul(self: ProcessBackend, x: Handle, weight: PackedArray) -> Any:
    found = _quantized(self, "quantized_matmul", x, weight)
    return Definition.quantized_matmul(self, x, weight) if found is None else found


def quantized_matmul_grad(self: ProcessBackend, g: Handle, weight: PackedArray) -> Any:
    found = _quantized(self, "quantized_matmul_grad", g, weight)
    return Definition.quantized_matmul_grad(self, g, weight) if found is None else found


# Random numbers and optimisers -------------------------------------------------------------------


@override
def philox(self: ProcessBackend, key: int, offset: int, blocks: int) -> Any:
    options = {"key": key, "offset": offset, "blocks": blocks}
    return op(self.client, "philox", (4 * blocks,), uint32.numpy, (), options)


@override
def adamw_step(
    self: ProcessBackend, params: list[Handle], grads: list[Handle], exp_avgs: list[Handle],
    exp_avg_sqs: list[Handle], options: AdamWOptions, steps: list[Handle] | None = None,
    found_inf: Handle | None = None, copies: list[Handle] | None = None,
) -> None:  # fmt: skip
    if not params:
        return
    written = [*params, *exp_avgs, *exp_avg_sqs]
    given = [*params, *grads, *exp_avgs, *exp_avg_sqs]
    simple = steps is None and copies is None
    if not simple or not all(x.dtype in DTYPES for x in given):
        Definition.adamw_step(
            self, params, grads, exp_avgs, exp_avg_sqs, options, steps, found_inf, copies
        )
        return
    numbers = ids(self.client, given)
    outs = [(x._id, NAMES[x.dtype], x.shape) for x in written]
    self.client.op("adamw_step", outs, numbers, options._asdict())
    for x in written:
        x.written()


def with_overrides(names: Sequence[str] | frozenset[str]) -> type[ProcessBackend]:
    """The backend's class with overrides for the plugin's ops `names`."""
    methods = {name: method for name, method in OVERRIDES.items() if name in names}
    for method in (quantized_matmul, quantized_matmul_grad):
        if any(name.startswith(f"{method.__name__}:") for name in names):
            methods[method.__name__] = method
    return type("ProcessBackend", (ProcessBackend,), methods)
