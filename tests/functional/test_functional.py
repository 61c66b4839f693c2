"""gradient.functional: derivatives of both orders, dtypes, randomness, and what is refused.

The rows are those of functional_cases.py; values are compared with PyTorch's in
parity/test_functional_parity.py.
"""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

import gradient
import gradient.functional as F
import support.array_backends  # noqa: F401 (registers the devices "bare" and "handle")
from gradient import nn, ones, tensor, zeros
from gradient.autograd import gradcheck, gradgradcheck
from gradient.errors import ArgumentError, DTypeError, ShapeError, TypeMismatch
from gradient.testing import assert_close
from support.functional_cases import CASES, Case
from support.public import public

SMOOTH = [case for case in CASES if case.smooth and case.arrays()]


def caller(case: Case, device: str, dtype: Any = gradient.float64) -> Any:
    """The case as a function of its inputs, with constants of the given dtype."""

    def constant(array: np.ndarray) -> gradient.Tensor:
        kind = dtype if array.dtype.kind == "f" else None
        return tensor(array, dtype=kind, device=device)

    def call(*inputs: gradient.Tensor) -> gradient.Tensor:
        result = case.call(F, list(inputs), constant)
        return result[0] if isinstance(result, tuple) else result

    return call


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_gradient(case: Case, device: str) -> None:
    inputs = [tensor(a, device=device, requires_grad=True) for a in case.arrays()]
    gradcheck(caller(case, device), inputs)


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_second_derivative(case: Case, device: str) -> None:
    inputs = [tensor(a, device=device, requires_grad=True) for a in case.arrays()]
    gradgradcheck(caller(case, device), inputs, check_non_contiguous=False)


@pytest.mark.parametrize("dtype", [gradient.float32, gradient.bfloat16], ids=str)
@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_result_and_gradients_keep_the_dtype(case: Case, dtype: Any, device: str) -> None:
    inputs = [tensor(a, dtype=dtype, device=device, requires_grad=True) for a in case.arrays()]
    result = caller(case, device, dtype)(*inputs)
    assert result.dtype is dtype
    wide = [t.detach().double() for t in inputs]
    wanted = caller(case, device)(*wide)
    assert tuple(result.shape) == tuple(wanted.shape)
    error = (result.detach().double() - wanted).abs().max()
    # Sums of a few dozen products, each of the order of one.
    assert float(error) < 24 * gradient.finfo(dtype).eps * max(1.0, float(wanted.abs().max()))
    result.sum().backward()
    assert all(t.grad.dtype is dtype for t in inputs)


@pytest.mark.parametrize("backend", ["bare", "handle"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_other_backends_give_the_same(case: Case, backend: str) -> None:
    """Composed definitions alone, and arrays that are opaque handles: as on the CPU."""
    results = []
    for device in ("cpu", backend):
        inputs = [tensor(a, device=device, requires_grad=True) for a in case.arrays()]
        result = caller(case, device)(*inputs)
        if result.requires_grad:
            weights = gradient.arange(1.0, result.numel() + 1, dtype=gradient.float64)
            result.backward(weights.reshape(result.shape).to(device=device))
        results.append([t.cpu().tolist() for t in (result.detach(), *(i.grad for i in inputs))])
    cpu, other = results
    for a, b in zip(cpu, other, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)


def test_every_function_has_a_case() -> None:
    random = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "gumbel_softmax"}
    random |= {"feature_alpha_dropout", "rrelu"}
    tested_below = {"attention", "cdist", "channel_shuffle", "ctc_loss", "grouped_linear"}
    tested_below |= {"multi_head_attention_forward"}  # nn.MultiheadAttention, and op_db
    tested_below |= {"upsample", "upsample_bilinear", "upsample_nearest"}
    by_an_option = {f"fractional_max_pool{n}d_with_indices" for n in (2, 3)}  # return_indices=True
    assert public(F).keys() - {case.name for case in CASES} == random | tested_below | by_an_option


def test_nn_functional_is_the_same() -> None:
    import gradient.nn.functional as alias

    assert public(alias) == public(F)


# ---- randomness --------------------------------------------------------------------------------

DROPOUTS = [
    (F.dropout, (200, 300)),
    (F.dropout1d, (200, 300, 2)),
    (F.dropout2d, (200, 300, 2, 2)),
    (F.dropout3d, (200, 300, 1, 2, 2)),
]


@pytest.mark.parametrize(("drop", "shape"), DROPOUTS, ids=lambda v: getattr(v, "__name__", ""))
def test_dropout(drop: Any, shape: tuple[int, ...], device: str) -> None:
    x = ones(*shape, device=device)
    y = drop(x, 0.3)
    kept = (y != 0).float()
    assert abs(float(kept.mean()) - 0.7) < 0.01
    assert set(y.unique().tolist()) <= {0.0, float(np.float32(1 / 0.7))}
    if drop is not F.dropout:
        channels = kept.reshape(200, 300, -1)
        assert (channels.amin(-1) == channels.amax(-1)).all(), "whole channels are dropped"
    assert drop(x, 0.3, training=False) is x and drop(x, 0.0) is x
    assert float(drop(x, 1.0).abs().sum()) == 0
    generators = [gradient.Generator(device).manual_seed(5) for _ in range(2)]
    first, second = (drop(x, 0.3, generator=generator) for generator in generators)
    assert (first == second).all() and not (first == drop(x, 0.3)).all()


def test_dropout_scales_the_gradient_like_the_value() -> None:
    x = ones(50, requires_grad=True)
    y = F.dropout(x * 1.0, 0.4)
    y.sum().backward()
    assert (x.grad == y).all()


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = gradient.randn(400, 400)
    y = F.alpha_dropout(x, 0.3, training=True)
    assert abs(float(y.mean())) < 0.02 and abs(float(y.std()) - 1) < 0.02
    assert F.alpha_dropout(x, 0.3) is x


def test_gumbel_softmax() -> None:
    logits = tensor([[0.0, 1.0, 2.0]]).expand(20_000, 3)
    hard = F.gumbel_softmax(logits, hard=True)
    assert (hard.amax(1) > 0.999).all() and float((hard.sum(1) - 1).abs().max()) < 1e-5
    wanted = F.softmax(logits[0], dim=0)
    assert float((hard.mean(0) - wanted).abs().max()) < 0.02
    soft = F.gumbel_softmax(logits, tau=0.5)
    assert float((soft.sum(1) - 1).abs().max()) < 1e-5
    x = gradient.randn(4, 3, requires_grad=True)
    (F.gumbel_softmax(x, hard=True) * gradient.randn(4, 3)).sum().backward()
    assert float(x.grad.abs().sum()) > 0


# ---- in place ----------------------------------------------------------------------------------

IN_PLACE = [
    "relu", "relu6", "elu", "selu", "celu", "silu", "mish", "hardsigmoid", "hardswish", "hardtanh",
    "leaky_relu",
]  # fmt: skip


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_activations(name: str) -> None:
    """The input is overwritten, and the gradient is as without, whatever came before needs."""
    function = getattr(F, name)
    grads = []
    for inplace in (False, True):
        x = tensor([-2.0, -0.5, 0.3, 1.7, 7.0], requires_grad=True)
        hidden = x * 2  # saves nothing that is overwritten
        y = function(hidden, inplace=inplace)
        assert (y is hidden) == inplace
        (y * y).sum().backward()
        grads.append(x.grad)
    assert grads[0].tolist() == grads[1].tolist()


@pytest.mark.parametrize("name", [*IN_PLACE, "threshold", "rrelu", "dropout", "alpha_dropout"])
def test_in_place_functions_in_the_graph(name: str) -> None:
    """They overwrite what a view shows, and old values that a gradient needs are noticed."""
    options = {"threshold": (0.1, 20.0), "rrelu": (0.1, 0.3, True), "dropout": (0.5,)}
    options["alpha_dropout"] = (0.5, True)
    call = lambda x: getattr(F, name)(x, *options.get(name, ()), inplace=True)  # noqa: E731
    x = tensor([[-2.0, -0.5, 0.3], [1.7, 7.0, 4.0]], requires_grad=True)
    grads = []
    for part in (lambda y: y, lambda y: y[:, 1:]):
        hidden = x * 2
        gradient.manual_seed(0)
        call(part(hidden))
        gradient.manual_seed(0)
        expected = call(part(x * 2).clone())
        assert gradient.equal(part(hidden), expected)
        grads.append(gradient.autograd.grad(hidden.sum(), x)[0])
        assert gradient.equal(
            part(grads[-1]), part(gradient.autograd.grad(expected.sum(), x)[0])
        ) and bool((grads[-1][:, 0] == 2).all() or part(x).shape == x.shape)
    hidden = x * 2
    name = "hardtanh" if name == "relu6" else name
    with pytest.raises(RuntimeError, match=f"{name}_: a leaf"):
        call(x)
    squares = hidden * hidden
    call(hidden)
    with pytest.raises(RuntimeError, match=f"{name}_ "):
        squares.sum().backward()


def test_an_input_overwritten_as_a_whole_gets_no_gradient_of_zeros() -> None:
    """`copy_` would clear the gradient of the old values, and add these zeros."""
    hidden = tensor([-1.0, 2.0], requires_grad=True) * 2
    assert F.relu(hidden, inplace=True).grad_fn.name() == "ReluBackward0"


# ---- edges -------------------------------------------------------------------------------------


def test_saturated_probabilities_have_finite_gradients() -> None:
    x = tensor([-200.0, 200.0], requires_grad=True)
    loss = F.binary_cross_entropy(F.sigmoid(x), tensor([1.0, 1.0]))
    loss.backward()
    assert float(loss) == 50.0 and bool(x.grad.isfinite().all())
    x = zeros(2, requires_grad=True)
    F.normalize(x, dim=0).sum().backward()
    assert bool(x.grad.isfinite().all())


def test_nothing_to_average_is_nan() -> None:
    loss = F.cross_entropy(ones(2, 3), tensor([-100, -100]))
    assert bool(loss.isnan())


def test_means_of_many_16_bit_losses_do_not_overflow() -> None:
    logits = tensor([[0.0, 3.0]], dtype=gradient.float16).expand(70_000, 2)
    loss = F.cross_entropy(logits, zeros(70_000, dtype=gradient.int64))
    assert loss.dtype is gradient.float16 and abs(float(loss) - 3.0486) < 0.002


def test_rows_that_may_look_at_nothing_give_zeros() -> None:
    q = gradient.randn(1, 1, 2, 4, requires_grad=True)
    mask = tensor([[True, True], [False, False]])
    y = F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    assert float(y[0, 0, 1].abs().sum()) == 0
    y.sum().backward()
    assert bool(q.grad.isfinite().all())


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ((2, 4), (2, 1), (2, 1)),
        ((2, 4), (2, 1), (1, 4)),
        ((2, 4), (1, 1), (2, 4)),
        ((1, 1), (2, 4), (2, 1)),
        ((2, 4), (4,), ()),
        ((), (3, 2, 4), (1,)),
    ],
)
def test_batches_and_heads_of_attention_broadcast(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]
) -> None:
    q = gradient.randn(*query, 3, 8, dtype=gradient.float64, requires_grad=True)
    k = gradient.randn(*key, 5, 8, dtype=gradient.float64, requires_grad=True)
    v = gradient.randn(*value, 5, 6, dtype=gradient.float64, requires_grad=True)
    found = F.scaled_dot_product_attention(q, k, v)
    expected = F.softmax(q @ k.mT / math.sqrt(8), -1) @ v
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.tolist(), expected.tolist(), atol=1e-12)
    for g, h in zip(
        gradient.autograd.grad(found.square().sum(), (q, k, v)),
        gradient.autograd.grad(expected.square().sum(), (q, k, v)),
        strict=True,
    ):
        np.testing.assert_allclose(g.tolist(), h.tolist(), atol=1e-12)


def test_attention_with_dropout_and_grouped_heads() -> None:
    q, k = gradient.randn(2, 4, 5, 8), gradient.randn(2, 2, 6, 8)
    plain = F.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    total = zeros(*plain.shape)
    for _ in range(200):
        total += F.scaled_dot_product_attention(q, k, k, dropout_p=0.2, enable_gqa=True)
    assert float((total / 200 - plain).abs().mean()) < 0.05


@pytest.mark.parametrize("softcap", [None, 0.5])
@pytest.mark.parametrize("window", [None, 1, 3, 50])
def test_windows_and_capped_scores_in_attention(window: int | None, softcap: float | None) -> None:
    q, k, v = (gradient.randn(2, heads, 7, 8, dtype=gradient.float64) for heads in (4, 2, 2))
    row, column = np.arange(7)[:, None], np.arange(7)
    seen = (column <= row) & (column > row - (window or 7))
    scores = q.numpy() @ np.repeat(k.numpy(), 2, 1).swapaxes(2, 3) * 0.4
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    weights = np.where(seen, np.exp(scores), 0)
    wanted = weights / weights.sum(-1, keepdims=True) @ np.repeat(v.numpy(), 2, 1)

    options: dict[str, Any] = {"scale": 0.4, "softcap": softcap}
    got = F.attention(q, k, v, is_causal=True, window=window, **options)
    assert np.allclose(got.numpy(), wanted, atol=1e-12)
    by_mask = F.attention(q, k, v, mask=tensor(seen), **options)
    assert np.allclose(by_mask.numpy(), wanted, atol=1e-12)
    dropped = F.attention(q, k, v, is_causal=True, window=window, dropout_p=1e-9, **options)
    assert np.allclose(dropped.numpy(), wanted, atol=1e-6)
    row_of_heads = F.attention(q[0], k[0], v[0], is_causal=True, window=window, **options)
    assert np.allclose(row_of_heads.numpy(), wanted[0], atol=1e-12)


def test_attention_without_weights_gives_none_for_them() -> None:
    x, weights = gradient.randn(5, 2, 8), (gradient.randn(24, 8), zeros(24))
    given: Any = (x, x, x, 8, 2, *weights, None, None, False, 0.0, gradient.randn(8, 8), zeros(8))
    out, none = F.multi_head_attention_forward(*given, need_weights=False)
    assert none is None
    expected, _ = F.multi_head_attention_forward(*given)
    assert_close(out, expected)


def test_functions_that_pytorch_has_elsewhere() -> None:
    a, b = (
        gradient.randn(3, 4, dtype=gradient.float64),
        gradient.randn(5, 4, dtype=gradient.float64),
    )
    wanted = np.linalg.norm(a.numpy()[:, None] - b.numpy()[None], axis=-1)
    assert np.allclose(F.cdist(a, b).numpy(), wanted)
    assert F.channel_shuffle(gradient.arange(6).reshape(1, 6, 1), 2).flatten().tolist() == [
        0, 3, 1, 4, 2, 5,
    ]  # fmt: skip


def test_running_statistics_follow_without_a_graph() -> None:
    mean, var = zeros(2), ones(2)
    x = gradient.randn(8, 2, requires_grad=True)
    F.batch_norm(x, mean, var, training=True, momentum=0.25)
    assert not mean.requires_grad
    assert np.allclose(mean.numpy(), 0.25 * x.detach().numpy().mean(0), atol=1e-6)
    wanted = 0.75 + 0.25 * x.detach().numpy().var(0, ddof=1)
    assert np.allclose(var.numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize(("stride", "padding"), [(7, 2), (9, 3)])
def test_a_window_may_lie_in_the_padding_alone(stride: int, padding: int) -> None:
    x, weight = (gradient.randn(*shape).requires_grad_() for shape in ((1, 2, 3), (4, 2, 1)))
    F.conv1d(x, weight, stride=stride, padding=padding).sum().backward()
    for t in (x, weight):
        assert t.grad is not None and t.grad.shape == t.shape and not t.grad.any()


@pytest.mark.parametrize("shape", [(2, 4), (2, 1 << 15)], ids=["small", "large"])
def test_of_several_nan_max_pooling_takes_the_last(shape: tuple[int, int]) -> None:
    """As PyTorch does."""
    nan = float("nan")
    x = zeros(1, 1, *shape)
    x[0, 0, :, :4] = tensor([[1.0, nan, 3.0, nan], [nan, 0.0, nan, 5.0]])
    width = shape[1]
    _, places = F.max_pool2d(x, 2, return_indices=True)
    assert places[0, 0, 0, :2].tolist() == [width, width + 2]
    _, places = F.max_pool2d(x, 2, 1, return_indices=True)
    assert places[0, 0, 0, :3].tolist() == [width, width + 2, width + 2]


def test_batch_norm_far_from_zero_does_not_depend_on_the_layout() -> None:
    rows = gradient.randn(64, 400, 2) + 1e4
    found = []
    for x in (rows.transpose(1, 2), rows.transpose(1, 2).contiguous()):
        x, mean = x.detach().requires_grad_(), zeros(2)
        weight = ones(2).requires_grad_()
        y = F.batch_norm(x, mean, ones(2), weight, training=True)
        y.pow(3).sum().backward()
        found.append((y, mean, x.grad, weight.grad))
    for one, other in zip(*found, strict=True):
        assert_close(one, other, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_softmax_without_dim_takes_pytorchs_and_warns(name, shape):
    x, dim = gradient.randn(shape), 0 if len(shape) in (0, 1, 3) else 1
    with pytest.warns(UserWarning, match=f"{name}: no dim was given, and dim={dim} is taken"):
        got = getattr(F, name)(x)
    assert_close(got, getattr(F, name)(x, dim=dim), rtol=0, atol=0)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: F.gelu(ones(2), approximate="fast"),
            ArgumentError,
            "gelu: approximate must be 'none' or 'tanh', got 'fast'",
        ),
        (
            lambda: F.glu(ones(3)),
            ShapeError,
            "glu: dimension -1 must have an even size, got 3",
        ),
        (
            lambda: F.prelu(ones(2, 3), ones(2)),
            ShapeError,
            "prelu: expected 1 slope or 3, one for each channel of the input (2, 3), got 2",
        ),
        (
            lambda: F.dropout(ones(2), -0.1),
            ArgumentError,
            "dropout: p is a probability, expected 0 <= p <= 1, got -0.1",
        ),
        (
            lambda: F.layer_norm(ones(2, 3), (4,)),
            ShapeError,
            "layer_norm: normalized_shape is (4,), so expected an input of shape (..., 4), "
            "got (2, 3)",
        ),
        (
            lambda: F.layer_norm(ones(2, 3), (3,), ones(2)),
            ShapeError,
            "layer_norm: expected weight of shape (3,), got (2,)",
        ),
        (
            lambda: F.group_norm(ones(2, 5, 3), 2),
            ShapeError,
            "group_norm: 5 channels do not divide into 2 groups",
        ),
        (
            lambda: F.batch_norm(ones(2, 3), None, None),
            ArgumentError,
            "batch_norm: expected running_mean and running_var when training=False",
        ),
        (
            lambda: F.embedding(ones(2), ones(3, 4)),
            DTypeError,
            "embedding: expected an input of int64 or int32, got gradient.float32",
        ),
        (
            lambda: F.embedding([1], ones(3, 4)),
            TypeMismatch,
            "embedding: expected a Tensor as input, got list",
        ),
        (
            lambda: F.embedding(tensor([1]), ones(3, 4), padding_idx=3),
            ArgumentError,
            "embedding: padding_idx must be within weight's 3 rows, got 3",
        ),
        (
            lambda: F.one_hot(tensor([0, 3]), 3),
            ArgumentError,
            "one_hot: expected classes from 0 to 2, got 3",
        ),
        (
            lambda: F.one_hot(tensor([-1, 3])),
            ArgumentError,
            "one_hot: classes must be 0 or more, got -1",
        ),
        (
            lambda: F.one_hot(tensor([1, 2]), -5),
            ArgumentError,
            "one_hot: expected num_classes of at least 1, or -1 to infer it, got -5",
        ),
        (
            lambda: F.one_hot(zeros(0).long(), 0),
            ArgumentError,
            "one_hot: expected num_classes of at least 1, or -1 to infer it, got 0",
        ),
        (
            lambda: F.one_hot(zeros(0).long()),
            ArgumentError,
            "one_hot: pass num_classes, it cannot be inferred from an empty tensor",
        ),
        (
            lambda: F.conv2d(ones(1, 3, 5, 5), ones(4, 2, 3, 3)),
            ShapeError,
            "conv2d: the weight (4, 2, 3, 3) with groups=1 takes 2 channels, "
            "the input (1, 3, 5, 5) has 3",
        ),
        (
            lambda: F.conv1d(ones(3), ones(4, 2, 3)),
            ShapeError,
            "conv1d: expected an input (N, C, L) or (C, L) and a weight of 3 dimensions, "
            "got (3,) and (4, 2, 3)",
        ),
        (
            lambda: F.conv1d(ones(1, 2, 4), ones(4, 2, 3), dilation=2),
            ShapeError,
            "conv1d: the kernel (3,) with dilation (2,) spans (5,), more than the padded input "
            "(4,)",
        ),
        (
            lambda: F.conv2d(ones(1, 2, 5, 5), ones(4, 2, 3, 3), padding="same", stride=2),
            ShapeError,
            "conv2d: padding='same' needs a stride of 1, got (2, 2)",
        ),
        (
            lambda: F.conv2d(ones(1, 2, 5, 5), ones(4, 2, 3, 3), ones(3)),
            ShapeError,
            "conv2d: expected bias of shape (4,), got (3,)",
        ),
        (
            lambda: F.conv2d(ones(1, 2, 5, 5), ones(4, 2, 3, 3), stride=(1, 2, 3)),
            ArgumentError,
            "conv2d: expected an int or a tuple of 2 as stride, got (1, 2, 3)",
        ),
        (
            lambda: F.max_pool2d(ones(1, 1, 4, 4), 2, padding=2),
            ShapeError,
            "max_pool2d: padding (2, 2) must be at most half of the kernel size (2, 2)",
        ),
        (
            lambda: F.fold(ones(1, 8, 5), (3, 3), 2),
            ShapeError,
            "fold: expected (N, C * 4, 4) for output_size (3, 3), got (1, 8, 5)",
        ),
        (
            lambda: F.pad(ones(2, 3), (1, 2, 3)),
            ShapeError,
            "pad: expected an even number of widths, at most 4 for an input (2, 3), got (1, 2, 3)",
        ),
        (
            lambda: F.pad(ones(2, 3), (3, 0), mode="reflect"),
            ShapeError,
            "pad: mode 'reflect' can widen dimension 1 of (2, 3) by at most 2 on a side, "
            "got 3 and 0",
        ),
        (
            lambda: F.pad(ones(2, 3), (1, 1), mode="mirror"),
            ArgumentError,
            "pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got 'mirror'",
        ),
        (
            lambda: F.interpolate(ones(1, 1, 2), size=4, mode="bicubic"),
            ArgumentError,
            "interpolate: mode 'bicubic' is not available for an input of 3 dimensions; expected "
            "nearest, nearest-exact, area, linear (3), bilinear or bicubic (4), trilinear (5)",
        ),
        (
            lambda: F.interpolate(ones(1, 1, 2)),
            ArgumentError,
            "interpolate: expected either size or scale_factor, got neither",
        ),
        (
            lambda: F.interpolate(ones(1, 1, 2, 2), size=(3,)),
            ArgumentError,
            "interpolate: expected a size of one number, or 2 for (1, 1, 2, 2), got (3,)",
        ),
        (
            lambda: F.cross_entropy(ones(2, 3), tensor([0, 1, 2])),
            ShapeError,
            "cross_entropy: for an input (2, 3) expected class indices of shape (2,), got (3,)",
        ),
        (
            lambda: F.cross_entropy(ones(2, 3), ones(3, 3)),
            ShapeError,
            "cross_entropy: probabilities must have the input's shape (2, 3), got (3, 3)",
        ),
        (
            lambda: F.cross_entropy(ones(2, 3), tensor([0, 1]), reduction="avg"),
            ArgumentError,
            "cross_entropy: reduction must be 'none', 'mean' or 'sum', got 'avg'",
        ),
        (
            lambda: F.cross_entropy(ones(2, 3), tensor([0, 1]), label_smoothing=2.0),
            ArgumentError,
            "cross_entropy: label_smoothing must be between 0 and 1, got 2.0",
        ),
        (
            lambda: F.nll_loss(ones(2, 3), tensor([0, 1]), ones(2)),
            ShapeError,
            "nll_loss: expected weight of shape (3,), got (2,)",
        ),
        (
            lambda: F.binary_cross_entropy(ones(2), ones(3)),
            ArgumentError,
            "binary_cross_entropy: target size (3,) differs from input size (2,)",
        ),
        (
            lambda: F.huber_loss(ones(2), ones(2), delta=0.0),
            ArgumentError,
            "huber_loss: delta must be greater than 0, got 0.0",
        ),
        (
            lambda: F.scaled_dot_product_attention(*(ones(1, 2, 3, 4),) * 3, ones(3, 3), 0.0, True),
            ArgumentError,
            "scaled_dot_product_attention: pass attn_mask or is_causal=True, not both",
        ),
        (
            lambda: F.scaled_dot_product_attention(
                ones(1, 4, 3, 4), ones(1, 2, 3, 4), ones(1, 2, 3, 4)
            ),
            ShapeError,
            "scaled_dot_product_attention: the heads differ, got query (1, 4, 3, 4), "
            "key (1, 2, 3, 4), value (1, 2, 3, 4); for grouped queries pass enable_gqa=True",
        ),
        (
            lambda: F.attention(*(ones(1, 2, 3, 4),) * 3, mask=ones(3, 3), is_causal=True),
            ArgumentError,
            "attention: pass mask or is_causal=True, not both",
        ),
        (
            lambda: F.attention(*(ones(1, 2, 3, 4),) * 3, window=2),
            ArgumentError,
            "attention: window=2 needs is_causal=True; without it, say by a mask which keys a "
            "query may look at",
        ),
        (
            lambda: F.attention(*(ones(1, 2, 3, 4),) * 3, is_causal=True, window=0),
            ArgumentError,
            "attention: window must be at least 1, got 0",
        ),
        (
            lambda: F.attention(*(ones(1, 2, 3, 4),) * 3, softcap=0.0),
            ArgumentError,
            "attention: softcap must be positive, got 0.0",
        ),
        (
            lambda: F.scaled_dot_product_attention(ones(2, 3), ones(4, 5), ones(4, 5)),
            ShapeError,
            "scaled_dot_product_attention: query and key must agree in their last size, key and "
            "value in their last but one, got query (2, 3), key (4, 5), value (4, 5)",
        ),
        (
            lambda: F.pixel_shuffle(ones(1, 6, 2, 2), 2),
            ShapeError,
            "pixel_shuffle: 6 channels are not divisible by 2 * 2",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message


def test_classes_out_of_range() -> None:
    for call in (
        lambda: F.cross_entropy(ones(2, 3), tensor([0, 3])),
        lambda: F.nll_loss(ones(2, 3), tensor([0, 3])),
        lambda: F.embedding(tensor([3]), ones(3, 2)),
        # NumPy would count these from the end.
        lambda: F.cross_entropy(ones(2, 3), tensor([0, -1])),
        lambda: F.nll_loss(ones(2, 3), tensor([0, -1])),
        lambda: F.embedding(tensor([-1]), ones(3, 2)),
    ):
        with pytest.raises(IndexError):
            call()


def test_accidental_broadcasting_warns() -> None:
    with pytest.warns(
        UserWarning, match=r"mse_loss: target size \(3,\) differs from input size"
    ) as seen:
        F.mse_loss(ones(3, 1), ones(3))
        nn.MSELoss()(ones(3, 1), ones(3))
    assert [warning.filename for warning in seen] == [__file__, __file__]  # not our own files


# ---- products with a weight --------------------------------------------------------------------


def test_a_bias_that_would_broadcast_the_product_is_refused(device: str) -> None:
    x, weight = ones(2, 3, device=device), ones(1, 3, device=device)
    for size in ((2,), (1, 2, 1)):
        with pytest.raises(ShapeError, match=r"linear: expected a bias \(1,\), got"):
            F.linear(x, weight, ones(*size, device=device))
    with pytest.raises(ShapeError, match=r"linear: expected an input \(..., 4\) beside a weight"):
        F.linear(x, ones(4, device=device))
    with pytest.raises(TypeError, match="linear: expected a Tensor as bias, got ndarray"):
        F.linear(x, weight, np.ones(1, np.float32))


# ---- products of groups ------------------------------------------------------------------------


def test_grouped_linear_is_a_linear_of_each_group(device: str) -> None:
    x = gradient.randn(9, 4, device=device)
    weights = [gradient.randn(3, 4, device=device) for _ in range(4)]
    counts = tensor([2, 0, 6, 1], device=device)
    parts = [F.linear(rows, w) for rows, w in zip(x.split([2, 0, 6, 1]), weights, strict=True)]
    assert_close(F.grouped_linear(x, weights, counts), gradient.cat(parts))


def test_grouped_linear_keeps_only_what_its_gradients_need() -> None:
    counts = tensor([1, 1])
    x, w = gradient.randn(2, 4, requires_grad=True), gradient.randn(3, 4, requires_grad=True)
    frozen = F.grouped_linear(x, [w.detach(), w.detach()], counts)
    assert frozen.node.saved[frozen.node.op.saved_names.index("x")] is None
    first = F.grouped_linear(x.detach(), [w, w], counts)
    assert first.node.saved[first.node.op.saved_names.index("weights")] is None
    mixed = F.grouped_linear(x, [w, w.detach()], counts)
    mixed.sum().backward()
    assert_close(w.grad, x.detach()[:1].expand(3, 4))


def test_grouped_linear_says_which_counts_do_not_fit() -> None:
    x, w = ones(3, 4), ones(2, 4)
    for counts, message in (
        (tensor([1, 1]), r"expected counts that add up to 3 rows, got \[1, 1\]"),
        (tensor([4, -1]), r"expected counts that add up to 3 rows, got \[4, -1\]"),
        (tensor([3]), "expected as many counts as weights, got 1, 2"),
    ):
        with pytest.raises(ShapeError, match=message):
            F.grouped_linear(x, [w, w], counts)
    with pytest.raises(DTypeError, match="expected integers \\(int64\\) as counts"):
        F.grouped_linear(x, [w, w], ones(2))
    with pytest.raises(ShapeError, match="weights: expected at least one"):
        F.grouped_linear(x, [], tensor([3]))


def test_the_gradient_of_ctc_loss_behind_a_log_softmax() -> None:
    """Of logits it is the derivative; of log-probabilities as they are it is PyTorch's."""
    rng = np.random.default_rng(0)
    logits = gradient.tensor(rng.standard_normal((5, 3, 4)), requires_grad=True)
    targets = gradient.tensor([[1, 2, 0], [3, 3, 1], [2, 0, 0]])

    def loss(logits: gradient.Tensor) -> gradient.Tensor:
        log_probs = F.log_softmax(logits, -1)
        return F.ctc_loss(log_probs, targets, (5, 4, 3), (2, 2, 0), reduction="none")

    assert gradient.autograd.gradcheck(loss, (logits,))


def test_ctc_loss_of_a_target_that_is_longer_than_the_input() -> None:
    log_probs = F.log_softmax(gradient.zeros(2, 1, 3, requires_grad=True), -1)
    target = gradient.tensor([[1, 1, 2]])
    assert F.ctc_loss(log_probs, target, (2,), (3,)).item() == math.inf
    assert F.ctc_loss(log_probs, target, (2,), (3,), zero_infinity=True).item() == 0
    # One path of two labels that are the same needs a blank between.
    assert F.ctc_loss(log_probs, target, (2,), (2,)).item() == math.inf


def test_the_old_names_of_interpolate() -> None:
    x = tensor(np.random.default_rng(0).standard_normal((1, 2, 3, 4)))
    assert_close(F.upsample(x, (6, 5)), F.interpolate(x, (6, 5)))
    assert_close(F.upsample_nearest(x, scale_factor=2), F.interpolate(x, scale_factor=2))
    bilinear = F.interpolate(x, (6, 5), mode="bilinear", align_corners=True)
    assert_close(F.upsample_bilinear(x, (6, 5)), bilinear)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialias_keeps_the_mean(mode: str) -> None:
    """Weights add up to one."""
    flat = F.interpolate(ones(1, 1, 9, 9), (4, 3), mode=mode, antialias=True)
    assert_close(flat, ones(1, 1, 4, 3))
    x = tensor(np.random.default_rng(0).standard_normal((1, 1, 6, 7)))
    constant = F.interpolate(x, (6, 7), mode=mode, antialias=True)
    assert_close(constant, x)  # of its own size an image is itself


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
@pytest.mark.parametrize("rows", [1, 3, 4])
def test_classes_of_uint8_are_indices_beside_weights(loss, rows):
    logits = gradient.randn(rows, 4)
    weight = gradient.tensor([0.5, 2.0, 0.25, 3.0])
    target = gradient.tensor([3, 1, 0, 2])[:rows]
    for options in ({}, {"ignore_index": 1}, {"reduction": "none"}):
        found = loss(logits, target.to(gradient.uint8), weight, **options)
        assert gradient.equal(found, loss(logits, target, weight, **options))


def test_cross_entropy_of_probabilities_takes_no_ignore_index():
    logits, target = gradient.randn(3, 4), gradient.full((3, 4), 0.25)
    assert F.cross_entropy(logits, target, ignore_index=-1).isfinite()
    with pytest.raises(ArgumentError, match="cross_entropy: expected no ignore_index"):
        F.cross_entropy(logits, target, ignore_index=1)


def test_ctc_loss_gives_an_impossible_class_no_gradient() -> None:
    """PyTorch's is NaN there, though the loss and the other gradients are finite."""
    log_probs = gradient.randn(5, 1, 4, dtype=gradient.float64).log_softmax(-1)
    log_probs[0, 0, 0] = log_probs[2, 0, 3] = -math.inf
    small = log_probs.masked_fill(log_probs.isinf(), -80.0)
    grads = []
    for x in (log_probs, small):
        x = x.detach().requires_grad_()
        loss = F.ctc_loss(x, tensor([[1, 2]]), (5,), (2,))
        grads.append(gradient.autograd.grad(loss, x)[0])
    assert (grads[0][log_probs.isinf()] == 0).all()
    assert_close(*grads)


def test_margin_losses_of_one_sample_take_targets_of_either_shape() -> None:
    number, one = tensor(0.5), tensor([0.5])
    for x, target in ((number, tensor([0])), (one, tensor(0))):
        assert F.multilabel_margin_loss(x, target, reduction="none").shape == ()
    row = tensor([[0.5, 1.0, 2.0]])
    alone = F.multi_margin_loss(row, tensor(1), reduction="none")
    assert alone.shape == ()
    assert alone.item() == F.multi_margin_loss(row, tensor([1])).item()


def test_losses_of_ints_and_bools() -> None:
    x = tensor([-3, 2, 0])
    losses = F.hinge_embedding_loss(x, tensor([-1, 1, -1]), 1.7, reduction="none")
    assert (losses.tolist(), losses.dtype) == ([4, 2, 1], gradient.int64)  # margin 1
    flags = tensor([True, False])
    for loss, expected in ((F.mse_loss, 0.25), (F.smooth_l1_loss, 0.125)):
        assert loss(tensor([0.5, 0.5]), flags).item() == expected
    with pytest.raises(DTypeError):
        F.l1_loss(tensor([0.5, 0.5]), flags)
    with pytest.raises(DTypeError, match="multilabel_margin_loss"):
        F.multilabel_margin_loss(x, x)


def peak_of(call: Any) -> int:
    """The most bytes that arrays take during a call, which runs once before."""
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.cpu_only
def test_a_multilabel_loss_takes_memory_for_its_targets_alone():
    """(N, J, C) for at most J targets a row, not (N, C, C)."""
    x = gradient.randn(16, 512, requires_grad=True)
    target = gradient.full((16, 512), -1)
    target[:, :2] = tensor([3, 500])
    assert peak_of(lambda: F.multilabel_margin_loss(x, target).backward()) < 16 * 512 * 512


@pytest.mark.cpu_only
@pytest.mark.parametrize("p", [0.0, 1.0, 3.0, math.inf])
def test_distances_without_gradients_take_memory_in_parts(p: float) -> None:
    x, y = gradient.randn(600, 128), gradient.randn(500, 128)
    assert peak_of(lambda: F.cdist(x, y, p)) < 25e6  # all differences are 154 MB
    assert peak_of(lambda: F.pdist(x, p)) < 45e6  # and 92
    for distances in (lambda x: F.cdist(x, y, p), lambda x: F.pdist(x, p)):
        whole = distances(x.clone().requires_grad_())
        assert_close(distances(x), whole.detach(), rtol=1e-5, atol=1e-5)


def test_a_loss_of_a_number_and_a_vector_has_the_wider_dtype() -> None:
    number, vector = tensor(1.0, dtype=gradient.float64), ones(2)
    for loss in (F.mse_loss, F.l1_loss, F.smooth_l1_loss):
        with pytest.warns(UserWarning, match="broadcast"):
            assert loss(number, vector).dtype == gradient.float64


@pytest.mark.parametrize("half", [gradient.bfloat16, gradient.float16])
def test_norms_of_16_bits_take_parameters_of_float32(half) -> None:
    x = tensor([[1.0, 2.0, 4.0], [0.0, 3.0, 1.0]], dtype=half, requires_grad=True)
    weight, bias = tensor([0.5, 1.0, 2.0], requires_grad=True), tensor([0.25, 0.0, 1.0])
    for norm in (
        lambda x: F.layer_norm(x, (3,), weight, bias),
        lambda x: F.layer_norm(x, (3,), weight),
        lambda x: F.layer_norm(x, (2, 3), None, bias.expand(2, 3)),
        lambda x: F.rms_norm(x, (3,), weight),
        lambda x: F.rms_norm(x, (2, 3), weight.expand(2, 3)),
    ):
        found, expected = norm(x), norm(x.detach().float())
        assert found.dtype == half
        assert gradient.equal(found, expected.to(half))
    grad_x, grad_weight = gradient.autograd.grad(norm(x).sum(), (x, weight))
    assert (grad_x.dtype, grad_weight.dtype) == (half, gradient.float32)
    for wrong in (weight.double(), weight.to(half)):
        with pytest.raises(DTypeError, match="layer_norm: expected inputs of one dtype"):
            F.layer_norm(x, (3,), wrong, bias)
    assert F.rms_norm(x, (3,), tensor([1, 0, 2])).dtype == half
    with pytest.raises(DTypeError, match="layer_norm"):
        F.layer_norm(x.float(), (3,), weight.to(half))


@pytest.mark.parametrize("dtype", [gradient.float32, gradient.float16], ids=str)
def test_nll_loss_of_maps_is_that_of_their_rows(dtype, device):
    """Also of more pixels than float16 can count, and of those that are ignored."""
    x = gradient.randn(2, 3, 200, 200, dtype=gradient.float32, device=device)
    target = gradient.randint(0, 3, (2, 200, 200), device=device)
    target[0, :7] = -100
    weight = gradient.tensor([0.5, 1.0, 2.0], dtype=dtype, device=device)
    for given in (None, weight):
        for reduction in ("mean", "none"):
            found = []
            for rows in (False, True):
                maps = x.clone().requires_grad_()
                log_probs, at = maps.to(dtype), target
                if rows:
                    log_probs, at = log_probs.movedim(1, -1).reshape(-1, 3), target.reshape(-1)
                loss = F.nll_loss(log_probs, at, given, reduction=reduction)
                (loss.float().reshape(-1) * 3).sum().backward()
                found.append((loss.reshape(-1), maps.grad))
            for got, expected in zip(*found, strict=True):
                gradient.testing.assert_close(got, expected)


@pytest.mark.cpu_only
def test_nll_loss_of_maps_names_a_class_that_is_not_there():
    with pytest.raises(IndexError, match=r"^nll_loss: index 3 is out of bounds for dimension 1"):
        F.nll_loss(ones(2, 3, 2), tensor([[0, 3], [1, 1]]))
    assert F.nll_loss(ones(2, 3, 2), tensor([[0, 3], [1, 1]]), ignore_index=3).item() == -1
