"""Complex tensors: dtypes, construction, views, gradients, refusals."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.autograd import Function, grad, gradcheck, gradgradcheck
from gradient.errors import ArgumentError, AutogradError, DTypeError, ShapeError, TypeMismatch
from gradient.io.safetensors import load_file, save_file
from gradient.tensor import Tensor

pytestmark = pytest.mark.cpu_only

Z = np.array([[1 + 2j, -3.5j], [0, 1e6 - 1j]])


def leaf(value: Any = Z) -> Tensor:
    return gradient.tensor(value, requires_grad=True)


def test_dtypes():
    for dtype, real, bits in (
        (gradient.complex64, gradient.float32, 64),
        (gradient.complex128, gradient.float64, 128),
    ):
        assert dtype.is_complex and not dtype.is_floating_point and dtype.is_signed
        assert dtype.bits == bits and dtype.to_real() is real and real.to_complex() is dtype
        assert gradient.finfo(dtype).eps == gradient.finfo(real).eps
    assert gradient.cfloat is gradient.complex64 and gradient.cdouble is gradient.complex128
    assert gradient.tensor(1 + 2j).dtype is gradient.complex64
    assert gradient.tensor([1, 2j, True]).dtype is gradient.complex64
    assert gradient.tensor(Z).dtype is gradient.complex128
    assert gradient.zeros(2, dtype=complex).dtype is gradient.complex128
    assert gradient.full((2,), 1j).dtype is gradient.complex64


def test_python_types_are_dtypes_of_64_bits_whatever_the_default_is():
    named = {float: gradient.float64, complex: gradient.complex128, int: gradient.int64}
    for python, dtype in named.items():
        assert gradient.zeros(2, dtype=python).dtype is dtype
        assert gradient.tensor([1], dtype=python).dtype is dtype
        assert gradient.ones(2).to(python).dtype is dtype
        assert gradient.ones(2).sum(dtype=python).dtype is dtype
    assert gradient.nn.Linear(1, 1).to(float).weight.dtype is gradient.float64
    assert gradient.tensor([1.0]).dtype is gradient.full((1,), 1.0).dtype is gradient.float32


def test_values_come_back():
    z = gradient.tensor(Z)
    assert z.tolist() == Z.tolist() and z[0, 0].item() == 1 + 2j and complex(z[0, 1]) == -3.5j
    assert z.numpy().dtype == np.complex128
    assert copy.deepcopy(z).tolist() == pickle.loads(pickle.dumps(z)).tolist() == Z.tolist()


def test_files(tmp_path: Path):
    z = gradient.tensor(Z).to(gradient.complex64)
    save_file({"z": z}, tmp_path / "z.safetensors")
    assert load_file(tmp_path / "z.safetensors")["z"].tolist() == z.tolist()


def test_views_share_memory():
    z = gradient.tensor(Z)
    z.real[0, 0] = 7
    z.imag = gradient.zeros(2, 2)
    gradient.view_as_real(z)[1, 1, 1] = 5
    assert z.tolist() == [[7, 0], [0, 1e6 + 5j]]
    parts = gradient.ones(3, 2)
    gradient.view_as_complex(parts).mul_(1j)
    assert parts.tolist() == [[-1, 1]] * 3


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,)])
def test_shapes_without_much_in_them(shape: tuple[int, ...]):
    z = gradient.zeros(shape, dtype=gradient.complex64)
    assert gradient.view_as_real(z).shape == (*shape, 2)
    assert gradient.view_as_complex(gradient.zeros(*shape, 2)).shape == shape
    for made in (z.real, z.imag, z.abs(), z.angle(), z.conj(), z.sgn()):
        assert made.shape == shape


def test_strides_of_views():
    z = gradient.tensor(Z).T
    assert gradient.view_as_real(z).tolist() == np.stack([Z.T.real, Z.T.imag], -1).tolist()
    rows = gradient.arange(12.0).reshape(3, 4)[:, :2]
    assert gradient.view_as_complex(rows).tolist() == [1j, 4 + 5j, 8 + 9j]


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: gradient.view_as_complex(gradient.ones(2, 4).T), ShapeError, "contiguous"),
        (
            lambda: gradient.view_as_complex(gradient.ones(3)),
            ShapeError,
            "last dimension of size 2",
        ),
        (lambda: gradient.view_as_complex(gradient.ones(()).half()), DTypeError, "float32 or fl"),
        (lambda: gradient.view_as_real(gradient.ones(2)), DTypeError, "a complex tensor"),
        (lambda: gradient.ones(2).imag, DTypeError, "imag: expected a complex tensor"),
        (lambda: gradient.complex(gradient.ones(2), gradient.ones(2).double()), DTypeError, "one"),
        (lambda: gradient.polar(gradient.ones(2), 1.0), TypeMismatch, "a Tensor as angle"),
        (lambda: gradient.tensor(1j, dtype=gradient.float32), ArgumentError, "can hold"),
        (lambda: gradient.tensor(Z, dtype=gradient.float32), ArgumentError, "real part"),
        (lambda: gradient.ones(2).fill_(1j), ArgumentError, "can hold"),
        (lambda: gradient.ones(2).add_(1j), DTypeError, "can't be cast"),
        (lambda: gradient.ones(2).__setitem__(0, gradient.tensor(1j)), DTypeError, "take .real"),
        (lambda: leaf().sum().backward(), AutogradError, "only for real scalar outputs"),
        (lambda: gradient.optim.Adam([leaf()]), DTypeError, "view_as_complex"),
    ],
)
def test_errors(call: Callable[[], Any], kind: type[Exception], words: str):
    with pytest.raises(kind, match=words):
        call()


REAL_ALONE = """
z < z|z >= 1|z.max()|z.min(0)|z.argmax()|z.amax()|z.sort()|z.argsort()|z.topk(1)|z.median()
z.relu()|z.floor()|z.ceil()|z.round()|z.trunc()|z.frac()|z.sign()|z.clamp(0, 1)|z.clamp(z, z)|z % 2
z // 2|z.fmod(2)|z.erf()|z.lgamma()|z.softmax(0)|z.log_softmax(0)|z.logit()|z.atan2(z)
z.hypot(z)|z.copysign(1)|z.maximum(z)|z.fmax(z)|z.cummax(0)|z.kthvalue(1)
z.quantile(0.5)|z.bitwise_not()|gradient.nn.functional.gelu(z)|gradient.histc(z)|z.clamp_(0, 1)
gradient.nn.functional.layer_norm(z, (2,))
z.scatter_reduce(0, i, z, "amax")
gradient.arange(2.0) < z|gradient.maximum(gradient.ones(2), z)|1.0 > z|z.deg2rad()|z.rad2deg()
"""


@pytest.mark.parametrize(
    "expression", [e for row in REAL_ALONE.split("\n") for e in row.split("|") if e]
)
def test_what_takes_real_numbers_alone_says_so(expression: str):
    """Never with the imaginary part left out."""
    names = {"z": gradient.tensor(Z), "i": gradient.zeros(2, 2, dtype=gradient.int64)}
    with pytest.raises((DTypeError, TypeMismatch)):
        eval(expression, {"gradient": gradient, **names})


def test_a_cast_to_real_numbers_warns():
    z = gradient.tensor(Z)
    with pytest.warns(UserWarning, match="discards the imaginary part"):
        assert z.double().tolist() == Z.real.tolist()
    assert z.bool().tolist() == (Z != 0).tolist()


def test_gradients_are_those_of_the_parts():
    """dL/dx + i dL/dy, and the real part for a real input."""
    z, x = leaf([1 + 2j, 3 - 1j]), leaf([1.0, 2.0])
    (z * x).abs().sum().backward()
    assert np.allclose(z.grad.numpy(), np.array([1, 2]) * z.detach().sgn().numpy())
    assert x.grad.dtype is gradient.float32
    assert np.allclose(x.grad.numpy(), np.abs([1 + 2j, 3 - 1j]))


@pytest.mark.parametrize("ord", [0, 1, 2, 3.5, math.inf, -math.inf])
def test_norms_are_those_of_the_absolute_values(ord: float):
    z = leaf([[1 + 2j, -0.5j], [0.3, 2 - 1j]])
    expected = np.linalg.norm(np.abs(z.detach().numpy()).ravel(), ord)
    assert np.allclose(gradient.linalg.vector_norm(z, ord).item(), expected)
    if ord:
        z = z.detach().cdouble().requires_grad_()
        assert gradcheck(lambda t: gradient.linalg.vector_norm(t, ord, 1), z)


@pytest.mark.parametrize(("value", "given"), [([1.0, 2.0], [1j, 2.0]), ([1j, 2.0], [1.0, 2.0])])
def test_complex_gradients_are_for_complex_results_alone(value: Any, given: Any):
    x = gradient.tensor(value, requires_grad=True)
    for create_graph in (False, True):
        with pytest.raises(RuntimeError, match=r"gradient 0 has dtype .* must be complex"):
            (x * 2).backward(gradient.tensor(given), create_graph=create_graph)
        with pytest.raises(RuntimeError, match=r"gradient 0 has dtype .* must be complex"):
            grad(x * 2, x, gradient.tensor(given), create_graph=create_graph)
    assert x.grad is None


def test_a_gradient_given_in_another_precision_is_cast():
    z = gradient.tensor([1j, 2.0], requires_grad=True)
    for create_graph in (False, True):
        (g,) = grad(z * 2, z, gradient.tensor(np.array([1j, 2.0])), create_graph=create_graph)
        assert g.dtype is gradient.complex64
        assert g.tolist() == [2j, 4.0]


def test_sums_of_exponentials_do_not_overflow():
    z = gradient.tensor([-1000 + 1j, 1000 + 2j, -1 + 0.5j], requires_grad=True)
    expected = 1000 + 2j
    for total in (z.logsumexp(0), z.logcumsumexp(0)[1], gradient.logaddexp(z[0], z[1])):
        assert total.item() == expected
        (slope,) = gradient.autograd.grad(total.real, z)
        assert slope.tolist() == [0, 1, 0]
    assert gradient.tensor([-1000 + 1j, 1000 + 1j]).sigmoid().tolist() == [0, 1]


def test_gradients_at_edges():
    z = leaf([0j, math.inf + 1j, complex(0, -0.0)])
    (g,) = grad(z[:1].abs().sum() + z[2:].angle().sum() + z[2:].sgn().abs().sum(), z)
    assert g.tolist() == [0, 0, 0]


def test_hooks_and_retained_gradients_see_what_users_see():
    z = leaf([1 + 2j])
    seen: list[Any] = []
    w = z * (2 - 1j)
    w.retain_grad()
    w.register_hook(lambda g: seen.append(g.tolist()))
    z.register_hook(lambda g: g * 1j)
    w.backward(gradient.tensor([1 + 1j]))
    assert seen == [[1 + 1j]] == [w.grad.tolist()]
    assert z.grad.tolist() == [(1 + 1j) * (2 + 1j) * 1j]


class Square(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z * z

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return g * 2 * z.conj()


def test_functions_of_ones_own_and_checkpoints():
    z = gradient.tensor([[1 + 2j, -0.5j], [0.3, 2 - 1j]]).cdouble().requires_grad_()
    assert gradcheck(Square.apply, z) and gradgradcheck(Square.apply, z)
    assert gradcheck(lambda t: gradient.autograd.checkpoint(lambda u: (u * u).exp(), t), z)


def test_gradcheck_finds_a_missing_conjugate():
    class Wrong(Square):
        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            (z,) = ctx.saved_tensors
            return g * 2 * z

    with pytest.raises(gradient.autograd.GradcheckError, match="imag"):
        gradcheck(Wrong.apply, gradient.tensor([1 + 2j]).cdouble().requires_grad_())


def test_writes_through_views_of_parts():
    def run(z: Tensor, x: Tensor) -> Tensor:
        y = z * 1
        parts = gradient.view_as_real(y)
        y.real[0] = x[0]
        y.imag.mul_(x)
        y.mul_(1j)
        return y.exp() * parts.sum()

    z = gradient.tensor([[1 + 2j, -0.5j], [0.3, 2 - 1j]]).cdouble().requires_grad_()
    x = gradient.tensor([[0.5, 1.5], [-1.0, 2.0]]).double().requires_grad_()
    assert gradcheck(run, (z, x)) and gradgradcheck(run, (z, x))


def test_rotary_embedding_as_llama_has_it():
    """Against the rotation by cos and sin."""
    x = gradient.randn(2, 3, 4, 8, requires_grad=True)
    freqs = gradient.outer(gradient.arange(3.0), 1.0 / 100.0 ** (gradient.arange(4.0) / 4))
    turns = gradient.polar(gradient.ones_like(freqs), freqs)
    pairs = gradient.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    out = gradient.view_as_real(pairs * turns[None, :, None, :]).flatten(3)
    cos, sin = freqs.cos()[None, :, None, :], freqs.sin()[None, :, None, :]
    even, odd = x[..., ::2], x[..., 1::2]
    expected = gradient.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(3)
    assert gradient.allclose(out, expected, atol=1e-6)
    g = gradient.randn(out.shape)
    (a,), (b,) = grad(out, x, g), grad(expected, x, g)
    assert gradient.allclose(a, b, atol=1e-6)


def test_a_compiled_step_is_the_same():
    def step(z: Tensor, x: Tensor) -> Tensor:
        return (z * x).exp().abs().sum()

    compiled = gradient.compile(step)
    z, x = leaf([0.5 + 1j, 0.25j]), gradient.tensor([1.0, 2.0])
    for _ in range(4):
        (eager,) = grad(step(z, x), z)
        (replayed,) = grad(compiled(z, x), z)
        assert eager.tolist() == replayed.tolist()


def test_sinc_is_sin_over_its_argument_and_1_at_0() -> None:
    x = leaf(np.array([0, 1e-3j, 0.3 - 2j, -0.5, 4e-3 + 1e-3j]))
    z = np.pi * x.detach().numpy()
    z[0] = 1
    expected = np.sin(z) / z
    expected[0] = 1
    found = gradient.sinc(x)
    assert np.allclose(found.detach().numpy(), expected, rtol=1e-14)
    assert gradcheck(gradient.sinc, x) and gradgradcheck(gradient.sinc, x)


def test_nan_to_num_replaces_real_and_imaginary_parts() -> None:
    x = leaf(np.array([complex(math.nan, 1), complex(2, math.inf), complex(-math.inf, math.nan)]))
    largest = gradient.finfo(gradient.float64).max
    assert gradient.nan_to_num(x).tolist() == [1j, complex(2, largest), complex(-largest, 0)]
    found = gradient.nan_to_num(x, 5, 6, -7)
    assert found.tolist() == [5 + 1j, 2 + 6j, -7 + 5j]
    (found.real.sum() + 2 * found.imag.sum()).backward()
    assert x.grad.tolist() == [2j, 1, 0]
    y = x.detach().clone()
    assert y.nan_to_num_(posinf=3) is y and y[1].item() == 2 + 3j


@pytest.mark.parametrize("function", [gradient.deg2rad, gradient.rad2deg])
def test_angles_are_no_complex_numbers(function: Any) -> None:
    with pytest.raises(DTypeError, match=f"{function.__name__}: expected real numbers"):
        function(leaf())


def test_a_nuclear_norm_adds_up_singular_values() -> None:
    x = leaf(np.stack([Z, Z.T * 2j]))
    values = np.linalg.svd(x.detach().numpy(), compute_uv=False).sum(-1)
    found = gradient.norm(x, "nuc", dim=(1, 2), keepdim=True)
    assert found.dtype is gradient.float64 and found.shape == (2, 1, 1)
    assert np.allclose(found.detach().numpy().ravel(), values)
    assert gradcheck(lambda x: x.norm("nuc"), leaf(np.array([[1 + 2j, -3.5j], [0, 2 - 1j]])))


@pytest.mark.parametrize("p", ["nuc", "fro", 1])
def test_a_norm_has_a_dtype_that_holds_the_numbers(p: Any) -> None:
    whole, real = gradient.tensor(Z), gradient.tensor(Z).real
    for norm in (gradient.norm, gradient.linalg.matrix_norm):
        for x, dtype in (
            (whole, gradient.float64),
            (whole, gradient.complex64),
            (real, gradient.complex128),
            (real, gradient.float32),
        ):
            with pytest.raises(DTypeError, match="dtype that holds all numbers"):
                norm(x, p, dtype=dtype)
        assert norm(whole, p, dtype=gradient.complex128).dtype is gradient.float64
