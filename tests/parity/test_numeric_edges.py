"""Transforms, views by strides, sampling and bags of embeddings at their edges, as PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402
from support.both_packages import assert_alike  # noqa: E402

INF, NAN = float("inf"), float("nan")
Z = np.arange(12).reshape(3, 4) * (1 + 2j)
W = np.array([[1.0, NAN], [3.0, -INF], [NAN, 2.0], [4.0, 5.0]])


def sampled(t: Any, place: float, mode: str) -> Any:
    pixels = t.arange(9.0).reshape(1, 1, 3, 3)
    options: Any = {"mode": mode, "padding_mode": "border", "align_corners": False}
    return t.nn.functional.grid_sample(pixels, t.tensor([[[[place, 0.1]]]]), **options)


def bags(t: Any, indices: Any, offsets: Any = None, **options: Any) -> Any:
    indices, offsets = (
        None if x is None else t.tensor(x, dtype=t.int64) for x in (indices, offsets)
    )
    return t.nn.functional.embedding_bag(indices, t.tensor(W), offsets, **options)


def slopes(t: Any, function: Callable[[Any], Any], values: Any) -> Any:
    """A function's result, and its gradient where the result has ones as gradient."""
    x = t.tensor(values, requires_grad=True)
    y = function(x)
    return y, t.autograd.grad(y, x, t.ones_like(y))[0]


def ctc(t: Any, targets: list[list[int]]) -> Any:
    scores = t.arange(30.0).reshape(6, 1, 5).sin().log_softmax(-1)
    return t.nn.functional.ctc_loss(scores, t.tensor(targets), (6,), (3,))


def ctc_slopes(t: Any, targets: Any, steps: Any, sizes: Any, **options: Any) -> Any:
    labels = t.tensor(targets)
    labels = labels if labels.numel() else labels.long()
    return slopes(
        t,
        lambda x: t.nn.functional.ctc_loss(x.log_softmax(-1), labels, steps, sizes, **options),
        np.sin(np.arange(48.0)).reshape(6, 2, 4),
    )


def scattered(t: Any, size: Any, stride: Any, offset: int) -> Any:
    return t.zeros(3, 4).as_strided_scatter(t.ones(size), size, stride, offset)


CASES: dict[str, Callable[[Any], Any]] = {
    "strides over real parts": lambda t: t.tensor(Z).real.as_strided((2, 2), (2, 4), 0),
    "strides from a real part on to an imaginary one": lambda t: (
        t.tensor(Z).real.as_strided((2, 3), (1, 2), 1)
    ),
    "strides over real parts of a part": lambda t: t.tensor(Z)[1:].real.as_strided((2,), (3,)),
    "strides over other bits": lambda t: (
        t.tensor(W).t().view(t.int64).as_strided((2,), (2,), 1) == t.tensor([1, 1])
    ),
    "strides behind real parts": lambda t: t.tensor(Z).real.as_strided((2,), (24,), 0),
    "gradient of strides over real parts": lambda t: slopes(
        t, lambda z: z.imag.as_strided((2, 2), (2, 4)), Z
    ),
    "scattered beyond the memory": lambda t: scattered(t, (20,), (1,), 0),
    "scattered one place beyond": lambda t: scattered(t, (1,), (1,), 12),
    "scattered to the last place": lambda t: scattered(t, (1,), (1,), 11),
    "scattered twice to one place": lambda t: scattered(t, (3, 3), (0, 1), 0),
    "ldexp by complex numbers": lambda t: t.ldexp(t.tensor([1.0, 3.0]), t.tensor([1j, 2 + 1j])),
    "ldexp_ by complex numbers": lambda t: t.ones(2).ldexp_(t.tensor([1j, 2 + 1j])),
    "sgn_ in the graph": lambda t: slopes(t, lambda z: (z * 1).sgn_(), Z),
    "sgn_ of a part in the graph": lambda t: slopes(
        t, lambda z: (y := z * 1, y[1:].sgn_())[0], Z
    ),
    **{
        f"{mode} sample at {place}": lambda t, place=place, mode=mode: sampled(t, place, mode)
        for mode in ("bilinear", "nearest")
        for place in (NAN, INF, -INF, 7.0)
    },
    "samples of no images": lambda t: t.nn.functional.grid_sample(
        t.zeros(0, 2, 3, 3), t.zeros(0, 2, 2, 2)
    ),
    "unpooling of no images": lambda t: t.nn.functional.max_unpool2d(
        t.zeros(0, 2, 3, 3), t.zeros(0, 2, 3, 3, dtype=t.int64), 2
    ),
    "the first row of a bag is NaN": lambda t: bags(t, [0, 2, 1, 3], [0, 1, 2], mode="max"),
    "no bags": lambda t: bags(t, [], []),
    "padding_idx too low": lambda t: bags(t, [[0, 1]], padding_idx=-5),
    "padding_idx too high": lambda t: bags(t, [[0, 1]], padding_idx=4),
    "padding_idx counted from the end": lambda t: bags(t, [[3, 1]], padding_idx=-1),
    "a blank among the targets": lambda t: ctc(t, [[1, 0, 2]]),
    **{
        f"ctc_loss, {name}, {reduction}, {zero=}": lambda t, case=case, r=reduction, z=zero: (
            ctc_slopes(t, *case, reduction=r, zero_infinity=z)
        )
        for name, case in {
            "targets of floats": ([[1.0, 2.9], [3.5, 1.0]], (6, 5), (2, 1)),
            "a target longer than its input": ([[1, 2, 3, 1], [3, 1, 1, 1]], (3, 6), (4, 3)),
            "a repeated label without room for a blank": ([[1, 1], [3, 3]], (2, 3), (2, 2)),
            "no steps": ([[1, 2], [3, 1]], (0, 6), (2, 2)),
            "no labels": ([[1, 2], [3, 1]], (6, 5), (0, 2)),
            "no labels at all": ([[], []], (6, 5), (0, 0)),
            "no labels and no steps": ([[1], [2]], (0, 5), (0, 1)),
            "more labels than lengths": ([1, 2, 3, 1, 1], (6, 6), (2, 2)),
            "fewer labels than lengths": ([1, 2, 3], (6, 6), (2, 2)),
            "a length beyond the targets": ([[1, 2], [3, 1]], (6, 6), (3, 2)),
        }.items()
        for reduction in ("none", "mean", "sum")
        for zero in (False, True)
    },
    "one size for one dimension": lambda t: t.fft.fft2(t.tensor(Z), 3, 0),
    "one size for two dimensions": lambda t: t.fft.fft2(t.tensor(Z), 3),
    "a transform of a number": lambda t: t.fft.rfft(t.tensor(1.0)),
    "no frequencies": lambda t: t.fft.fftfreq(0),
    "frequencies of a time of 0": lambda t: (t.fft.fftfreq(5, 0.0), t.fft.rfftfreq(4, 0.0)),
    "frequencies in integers": lambda t: t.fft.fftfreq(5, dtype=t.int64),
    "half of the frequencies in integers": lambda t: t.fft.rfftfreq(5, dtype=t.int64),
    "lu of a singular matrix": lambda t: t.lu(t.ones(3, 3)),
    "least squares of a short vector": lambda t: t.linalg.lstsq(t.ones(4, 5), t.ones(3)),
    "version of a module": lambda t: t.nn.Linear(1, 1).state_dict()._metadata[""]["version"],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name: str):
    assert_alike(CASES[name])


def test_nan_is_the_largest_of_a_bag():
    """Wherever it stands; PyTorch finds it in the first row of a bag alone."""
    assert bags(gradient, [[2, 0, 3], [3, 0, 1]], mode="max").isnan().tolist() == [
        [True, True],
        [False, True],
    ]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["add", "sub", "lerp", "lerp by a tensor"])
def test_16_bit_floats_are_rounded_once(name, dtype):
    # A multiple of what one vector holds: the elements that are left over PyTorch rounds twice.
    a, b = np.random.default_rng(0).standard_normal((2, 4096)).astype(np.float32)
    calls = {
        "add": lambda x, y: x.add(y, alpha=0.3),
        "sub": lambda x, y: x.clone().sub_(y, alpha=0.3),
        "lerp": lambda x, y: x.clone().lerp_(y, 0.3),
        "lerp by a tensor": lambda x, y: x.lerp(y, y.abs()),
    }
    theirs, ours = (
        calls[name](t.tensor(a).to(getattr(t, dtype)), t.tensor(b).to(getattr(t, dtype)))
        for t in (torch, gradient)
    )
    np.testing.assert_array_equal(ours.float().numpy(), theirs.float().numpy())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["rsqrt", "prod", "logsumexp", "logcumsumexp", "reciprocal"])
def test_16_bit_results_are_the_nearest(name, dtype):
    """PyTorch's prod and logsumexp are up to 13 units of the last place off, as they round on the
    way; where it rounds once, in rsqrt, both are the same."""
    calls = {
        "prod": lambda x: x.prod(1),
        "logsumexp": lambda x: x.logsumexp(1),
        "logcumsumexp": lambda x: x.logcumsumexp(1),
    }
    call = calls.get(name, lambda x: getattr(x, name)())
    values = np.random.default_rng(0).uniform(0.8, 1.25, (400, 20)).astype(np.float32)
    x = gradient.tensor(values).to(getattr(gradient, dtype))
    nearest = call(x.double()).to(x.dtype)
    # Twice rounded, by float32 and then by the dtype, one in thousands is the neighbour.
    assert (call(x) == nearest).float().mean() > 0.998
    if name == "rsqrt":
        theirs = torch.tensor(values).to(getattr(torch, dtype)).rsqrt()
        assert np.mean(theirs.float().numpy() == call(x).float().numpy()) > 0.998


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "float32"])
@pytest.mark.parametrize("size", [(0, 0), (2, 0, 0), (1, 1), (2, 3, 3)])
def test_pinv_of_hermitian_matrices(size, dtype):
    def inverses(t: Any) -> Any:
        n = t.arange(float(np.prod(size))).reshape(size)
        a = (n + (1j * n.sin() if dtype.startswith("c") else 0)).to(getattr(t, dtype))
        a = a + a.mH
        found = [t.linalg.pinv(a, hermitian=True), t.linalg.pinv(a, 0.5, True)]
        found += [t.linalg.pinv(a.tril(), hermitian=True, rtol=1e-3)]
        return tuple((b.abs() * 100).round() for b in found)

    assert_alike(inverses)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("exponent", [3, 3.0, -2, -2.0, 2, -1.0])
def test_powers_by_products_have_pytorchs_bits(exponent, dtype):
    values = [*np.random.default_rng(0).standard_normal(3000), 0.0, -0.0, INF, -INF, NAN]
    with np.errstate(all="ignore"):
        ours, theirs = (
            (t.tensor(values).to(getattr(t, dtype)) ** exponent).double().numpy()
            for t in (gradient, torch)
        )
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(np.signbit(ours), np.signbit(theirs))


@pytest.mark.parametrize("exponent", [1 / 3, 0.5, -0.5, 1.7, -1.3, 0.1, 2])
@pytest.mark.parametrize("kind", ["number", "tensor", "base"])
def test_powers_of_float16_and_their_gradients(kind, exponent):
    def both(t: Any, dtype: str) -> list[np.ndarray]:
        x = t.tensor(values).to(getattr(t, dtype)).requires_grad_()
        other = t.full_like(x, exponent).requires_grad_() if kind == "tensor" else exponent
        y = abs(exponent) ** x if kind == "base" else x**other
        grads = t.autograd.grad(y, [x, other] if kind == "tensor" else [x], t.ones_like(y))
        return [each.detach().float().numpy() for each in (y, *grads)]

    values = np.random.default_rng(0).uniform(0.1, 4, 4000).astype(np.float32)
    for ours, theirs in zip(both(gradient, "float16"), both(torch, "float16"), strict=True):
        assert np.mean(ours == theirs) > 0.995
    if kind != "tensor":
        ours, theirs = both(gradient, "bfloat16"), both(torch, "bfloat16")
        assert np.mean(ours[0] == theirs[0]) > 0.99
        assert np.mean(ours[1] == theirs[1]) > 0.99


def test_the_older_svd_of_complex_matrices():
    a = np.random.default_rng(0).standard_normal((2, 4, 3)) * (1 + 2j) + 1j
    for some in (True, False):
        u, s, v = gradient.svd(gradient.tensor(a), some)
        back = (u[..., :3] * s.to(u.dtype)[:, None]) @ v.mH
        np.testing.assert_allclose(back.numpy(), a, atol=1e-12)
        assert [t.shape for t in (u, s, v)] == [t.shape for t in torch.svd(torch.tensor(a), some)]
