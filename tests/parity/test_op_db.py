"""PyTorch's own op database: its samples run through both, and values, dtypes, shapes and gradients
are compared in float64 (values also in float32 and int64 where the op takes them)."""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.parity,
    # What PyTorch has to say about its own samples.
    pytest.mark.filterwarnings("ignore:Using padding='same'"),
    pytest.mark.filterwarnings("ignore:linear_cross_entropy"),
    pytest.mark.filterwarnings("ignore:`nn.functional.upsample"),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss"),
    pytest.mark.filterwarnings("ignore:.*degrees of freedom is <= 0"),
    pytest.mark.filterwarnings("ignore:Using torch.cross without specifying the dim"),
    pytest.mark.filterwarnings("ignore:index_reduce.. is in beta"),
    pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter"),
    pytest.mark.filterwarnings(
        "ignore:torch.(cholesky|qr|lu|lu_solve|triangular_solve) is deprecated"
    ),
    pytest.mark.filterwarnings("ignore:Casting complex values to real"),
    pytest.mark.filterwarnings("ignore:A window was not provided"),
    pytest.mark.filterwarnings("ignore:stft with return_complex=False"),
]
torch = pytest.importorskip("torch")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_utils import SEED

import gradient  # noqa: E402
import gradient.nn.functional as F  # noqa: E402
from gradient.linalg import lstsq  # noqa: E402

KNOWN = Path(__file__).with_name("op_db.txt")

SAMPLES = 60
"""Of each op; the database has up to thousands."""

LARGE = 1 << 17
"""Elements of a sample's input that are left out where an op has smaller ones, of the same options:
grid_sampler_3d's have five million."""

# Called by the database in another form than by the function of this name.
CALLED: dict[str, Callable[..., Any]] = {
    "where": lambda x, condition, other: gradient.where(condition, x, other),
    "einsum": lambda tensors, equation: gradient.einsum(equation, tensors),
    "zero_": lambda x: x.clone().zero_(),
    "fill": lambda x, value: x.clone().fill_(value),
    "nn.functional.embedding": lambda weight, index, **options: F.embedding(
        index, weight, **options
    ),
    "nn.functional.embedding_bag": lambda weight, index, **options: F.embedding_bag(
        index, weight, **options
    ),
    "polygamma": lambda x, n: gradient.polygamma(n, x),
    "special.polygamma": lambda x, n: gradient.special.polygamma(n, x),
    "put": lambda x, index, source, accumulate=False: x.put(index, source, accumulate),
    "slice": lambda x, dim=0, start=None, end=None, step=1: x[
        (slice(None),) * (dim % x.ndim) + (slice(start, end, step),)
    ],
    **{
        f"__r{name}__": lambda x, other, name=name: getattr(operator, name)(other, x)
        for name in ("add", "mul", "sub", "mod", "pow", "matmul")
    },
    "__rdiv__": lambda x, other: other / x,
    "__getitem__": lambda x, index: x[index],
    "linalg.lstsq.grad_oriented": lambda a, b, driver: lstsq(a, b, driver=driver)[:2],
    "svd_lowrank": lambda a, b, **options: gradient.svd_lowrank(a @ b.mT, **options),
    "pca_lowrank": lambda a, b, **options: gradient.pca_lowrank(a @ b.mT, **options),
    "linalg.pinv.singular": lambda a, b: gradient.linalg.pinv(a @ b.mT),
}

# Vectors of which the sign is not defined: absolute values are compared.
SIGNLESS = {"linalg.eig", "linalg.eigh", "linalg.svd", "svd", "svd_lowrank", "pca_lowrank"}

# In float32, how near we are to PyTorch where its results lose digits to cancellation.
ROUGH = {"matrix_exp": 5e-3}

# PyTorch's gradient reads both triangles: the samples are made what they are taken for.
SYMMETRIC = {"linalg.pinv.hermitian"}

# Gradients of the order of 1e9, of what cancels.
STEEP = {"cov": 1e-4}

ROW_MAJOR = (torch.preserve_format, torch.contiguous_format)

# Which of several equal elements these name is not defined.
TIES = {"argsort", "kthvalue", "median", "mode", "msort", "nanmedian", "sort", "topk"}


def ours_of(op: Any) -> Any:
    """Our function for an entry of the database, None where we do not have it: a function of
    `gradient` by its dotted name, or a method or property of Tensor."""
    name = op.name
    for called in (name_of(op), name):
        if called in CALLED:
            return CALLED[called]
    if name.startswith("nn.functional."):
        return getattr(F, name.removeprefix("nn.functional."), None)
    try:
        found = functools.reduce(getattr, name.split("."), gradient)
    except AttributeError:
        found = None
    if found is None or isinstance(found, gradient.dtype):  # as `float` is, and Tensor.float
        found = getattr(gradient.Tensor, name, None)
    if isinstance(found, property):
        return found.fget
    return found if callable(found) else None


def name_of(op: Any) -> str:
    return op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")


def known() -> dict[str, str]:
    """What does not pass, and why, by the names of entries."""
    found = {}
    for line in KNOWN.read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, reason = line.partition(": ")
            assert reason and name not in found, f"{name}: listed twice, or without a reason"
            found[name] = reason
    return found


DIFFERENTIABLE = [
    op for op in op_db if op.supports_autograd and op.supports_dtype(torch.float64, "cpu")
]
LISTED = known()
_differentiable = set(map(id, DIFFERENTIABLE))  # `in` would compare all fields of all entries
CHOSEN = [
    op
    for op in op_db
    if name_of(op) not in LISTED and (id(op) in _differentiable or ours_of(op) is not None)
]


def converted(value: Any, requires_grad: bool) -> Any:
    """A sample's arguments with gradient's tensors, dtypes and devices for PyTorch's."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().resolve_conj().resolve_neg()
        strided = plain.numpy()
        memory = torch.empty(0, dtype=plain.dtype).set_(plain.untyped_storage())
        if memory.numel() > plain.numel():  # a part, by strides that as_strided is relative to
            whole = gradient.from_numpy(memory.numpy())
            out = whole.as_strided(plain.shape, plain.stride(), plain.storage_offset())
        else:
            out = gradient.from_numpy(strided.copy() if 0 in strided.strides else strided)
        if requires_grad and value.requires_grad:
            out.requires_grad_()
        return out
    if isinstance(value, torch.dtype):
        return getattr(gradient, str(value).removeprefix("torch."))
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple, torch.Size):
        kind = tuple if isinstance(value, torch.Size) else type(value)
        return kind(converted(v, requires_grad) for v in value)
    if isinstance(value, dict):
        return {k: converted(v, requires_grad) for k, v in value.items() if k != "memory_format"}
    if isinstance(value, torch.nn.PairwiseDistance):
        return gradient.nn.PairwiseDistance(value.norm, value.eps, value.keepdim)
    if callable(value):  # a distance function
        return getattr(F, value.__name__)
    return value


def flat(value: Any, kind: type) -> list[Any]:
    if isinstance(value, kind):
        return [value]
    if isinstance(value, (list, tuple)):
        return list(itertools.chain.from_iterable(flat(v, kind) for v in value))
    return []


def absolute(tensors: list[Any]) -> list[Any]:
    return [x.abs() for x in tensors]


def leaves(value: Any, kind: type) -> list[Any]:
    if isinstance(value, dict):
        return leaves(list(value.values()), kind)
    if isinstance(value, (list, tuple)):
        return list(itertools.chain.from_iterable(leaves(v, kind) for v in value))
    return [value] if isinstance(value, kind) else []


@contextlib.contextmanager
def sample_of(op: Any, number: int, sample: Any) -> Iterator[None]:
    """An error within says of which sample it is. (To print each took a quarter of the time.)"""
    try:
        yield
    except Exception as error:
        error.add_note(f"{name_of(op)} sample {number}: {sample}"[:500])
        raise


def compare(got: Any, expected: Any, what: str, tolerance: float) -> None:
    if isinstance(expected, torch.Tensor):
        assert isinstance(got, gradient.Tensor), f"{what}: got {type(got).__name__}"
        assert tuple(got.shape) == tuple(expected.shape), f"{what}: shape {tuple(got.shape)}"
        assert str(got.dtype) == str(expected.dtype).replace("torch", "gradient"), what
        wide = np.complex128 if expected.is_complex() else np.float64
        a = np.asarray(got.detach().numpy(), wide)
        e = expected.detach().resolve_conj().to(getattr(torch, wide.__name__)).numpy(force=True)
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance, err_msg=what)
    else:
        np.testing.assert_allclose(float(got), float(expected), rtol=tolerance, err_msg=what)


def supported(sample: Any) -> bool:
    """Whether gradient has what the sample asks for; see the comments for what it has not."""
    every = leaves([sample.input, list(sample.args), sample.kwargs], torch.Tensor)
    options = sample.kwargs
    functions = [v for v in options.values() if callable(v)]
    return (
        all(t.layout == torch.strided for t in every)
        and all(
            isinstance(f, torch.nn.PairwiseDistance) or hasattr(F, getattr(f, "__name__", "?"))
            for f in functions  # those of one's own are left out
        )
        and not options.keys() & {"out", "layout"}
        and options.get("memory_format", ROW_MAJOR[0]) in ROW_MAJOR
        and not options.get("sparse")  # of embedding
        and not (options.get("scale_grad_by_freq") and "mode" in options)  # PyTorch's bags count
        # how often other rows than a gradient's own were looked up
        and options.get("dropout_p", 0.0) == 0.0  # random
        and options.get("M") is None  # of svd_lowrank: of full rank then, of which some is random
        and not (every and every[0].numel() == 0 and not every[0].is_floating_point()
                 and "alpha" in options)  # local_response_norm of no integers
    )  # fmt: skip


def arbitrary(sample: Any) -> bool:
    """Whether more than one vector is added to make U or V a square, by any rotation of them."""
    m, n = sample.input.shape[-2:]
    return abs(m - n) > 1 and bool(
        sample.kwargs.get("full_matrices", not sample.kwargs.get("some", True))
    )


def each_seeded(samples: Any) -> Iterator[Any]:
    """The samples of `op.sample_inputs`, which also looks for a unittest in the stack: half of a
    run's time."""
    iterator, end = iter(samples), object()
    while True:
        torch.default_generator.manual_seed(SEED)
        random.seed(SEED)
        np.random.seed(SEED)
        if (sample := next(iterator, end)) is end:
            return
        yield sample


def first_samples(op: Any, dtype: Any, requires_grad: bool) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        every = each_seeded(op.sample_inputs_func(op, "cpu", dtype, requires_grad))
        good = (s for s in every if supported(s) and not (op.name in SIGNLESS and arbitrary(s)))
        chosen = list(itertools.islice(good, SAMPLES))
    small = [
        s for s in chosen if not (isinstance(s.input, torch.Tensor) and s.input.numel() > LARGE)
    ]
    return small or chosen


@pytest.mark.parametrize("op", CHOSEN, ids=name_of)
def test_values_and_gradients_in_float64(op: Any):
    if not op.supports_dtype(torch.float64, "cpu"):
        pytest.skip("the op takes no float64")
    compare_in_float64(op)


@pytest.mark.parametrize("op", [op for op in DIFFERENTIABLE if name_of(op) in LISTED], ids=name_of)
def test_what_is_listed_does_not_pass(op: Any):
    """An entry that passes is to be taken off the list."""
    try:
        compare_in_float64(op)
    except Exception:
        return
    pytest.fail(f"{name_of(op)} passes: take it off {KNOWN.name}")


# Those of nn.functional take it in C++ alone; `equal` and `histogramdd` take none.
WITH_OUT = [
    op
    for op in CHOSEN
    if op.supports_out
    and op.name not in {*CALLED, "equal", "histogramdd"}
    and not op.name.startswith("nn.functional.")
]


@pytest.mark.parametrize("op", WITH_OUT, ids=name_of)
def test_results_are_written_where_out_says(op: Any):
    dtype = torch.float64 if op.supports_dtype(torch.float64, "cpu") else torch.int64
    for sample in first_samples(op, dtype, requires_grad=False)[:5]:
        args = converted([sample.input, *sample.args], requires_grad=False)
        options = converted(sample.kwargs, requires_grad=False)
        plain = ours_of(op)(*args, **options)
        expected = flat(plain, gradient.Tensor)
        outs = [gradient.empty_like(x) for x in expected]
        out = outs[0] if isinstance(plain, gradient.Tensor) else tuple(outs)
        given = flat(ours_of(op)(*args, **options, out=out), gradient.Tensor)
        assert len(given) == len(outs) and all(a is b for a, b in zip(given, outs, strict=True))
        for a, b in zip(outs, expected, strict=True):
            assert np.array_equal(a.numpy(), b.numpy(), equal_nan=True), f"{name_of(op)}: {sample}"


# Where we cast to, or compute in, a dtype for which PyTorch has no kernel, or the reverse.
OTHER_OUT = {
    "diff": "PyTorch's may have another dtype where n > 1",
    "inner": "PyTorch's may have another dtype where an input is 0-d",
    "bernoulli": "its int kernels; no complex one",
    **dict.fromkeys(("fft.hfft", "fft.hfft2", "fft.hfftn", "fft.ifft", "fft.ihfft"), "no cast"),
    **dict.fromkeys(("fft.ihfftn", "fft.irfft", "fft.irfft2", "fft.irfftn"), "no cast"),
    "linalg.matrix_power": "PyTorch's may have another dtype where n < 2",
    "lu": "PyTorch casts any dtype to any",
    "normal.number_mean": "its samples have keywords that normal lacks",
}


@pytest.mark.parametrize("op", WITH_OUT, ids=name_of)
def test_out_of_another_dtype_is_refused_where_pytorch_refuses_it(op: Any):
    if reason := OTHER_OUT.get(name_of(op)) or OTHER_OUT.get(op.name):
        pytest.skip(reason)
    dtype = torch.float32 if op.supports_dtype(torch.float32, "cpu") else torch.int64
    for sample in first_samples(op, dtype, requires_grad=False)[:1]:
        args = converted([sample.input, *sample.args], requires_grad=False)
        options = converted(sample.kwargs, requires_grad=False)
        plain = op(sample.input, *sample.args, **sample.kwargs)
        for other in (torch.complex64, torch.float64, torch.int32):
            outs = [torch.zeros_like(x, dtype=other) for x in flat(plain, torch.Tensor)]
            ours = [gradient.from_numpy(x.numpy().copy()) for x in outs]
            alone = isinstance(plain, torch.Tensor)
            try:
                op(sample.input, *sample.args, **sample.kwargs, out=outs[0] if alone else outs)
                taken = True
            except (RuntimeError, TypeError):
                taken = False
            out = ours[0] if alone else tuple(ours)
            with contextlib.nullcontext() if taken else pytest.raises(RuntimeError):
                ours_of(op)(*args, **options, out=out)


COMPLEX = [op for op in CHOSEN if op.supports_dtype(torch.complex128, "cpu")]


@pytest.mark.parametrize("op", COMPLEX, ids=name_of)
def test_values_and_gradients_in_complex128(op: Any):
    """Of complex samples too, or refused in so many words."""
    try:
        compare_in_float64(op, torch.complex128)
    except gradient.errors.DTypeError as error:
        assert "complex128" in str(error)


def compare_in_float64(op: Any, dtype: Any = torch.float64) -> None:
    differentiable = op.supports_autograd
    ours = ours_of(op)
    assert ours is not None, f"{op.name} is absent, and not in {KNOWN.name}"
    samples = first_samples(op, dtype, differentiable)
    assert samples, f"{name_of(op)}: none of its samples can be compared"
    for i, sample in enumerate(samples):
        with sample_of(op, i, sample):
            compare_sample(op, i, sample)


def compare_sample(op: Any, i: int, sample: Any) -> None:
    differentiable = op.supports_autograd
    if name_of(op) in SYMMETRIC:
        sample.input = (sample.input + sample.input.mH).detach().requires_grad_()
    theirs_in = [sample.input, list(sample.args), sample.kwargs]
    ours_in = converted(theirs_in, differentiable)
    expected = op(sample.input, *sample.args, **sample.kwargs)
    got = ours_of(op)(ours_in[0], *ours_in[1], **ours_in[2])
    expected_flat, got_flat = flat(expected, torch.Tensor), flat(got, gradient.Tensor)
    if op.name in SIGNLESS:
        expected_flat, got_flat = map(absolute, (expected_flat, got_flat))
    assert len(got_flat) == len(expected_flat)
    for g, e in zip(got_flat, expected_flat, strict=True):
        compare(g, e, "result", 1e-9)
    if not differentiable:
        return
    theirs = [t for t in leaves(theirs_in, torch.Tensor) if t.requires_grad]
    mine = [t for t in leaves(ours_in, gradient.Tensor) if t.requires_grad]
    pairs = [(g, e) for g, e in zip(got_flat, expected_flat, strict=True) if e.requires_grad]
    if not pairs or not theirs:
        return
    rng = np.random.default_rng(i)
    weights = [np.asarray(rng.standard_normal(tuple(e.shape))) for _, e in pairs]
    for at, (_, e) in enumerate(pairs):
        if e.is_complex():
            extra = 1j * rng.standard_normal(tuple(e.shape))
            weights[at] = np.asarray(weights[at] + extra)
    expected_grads = torch.autograd.grad(
        [e for _, e in pairs], theirs, [torch.from_numpy(w) for w in weights], allow_unused=True
    )
    got_grads = gradient.autograd.grad(
        [g for g, _ in pairs],
        mine,
        [gradient.from_numpy(w) for w in weights],
        allow_unused=True,
    )
    for g, e, their in zip(got_grads, expected_grads, theirs, strict=True):
        if e is None and their._is_view():
            continue  # taken under no_grad when the sample was made: it is lost in PyTorch
        if e is None or g is None:
            for other in (e, g):
                assert other is None or float(abs(other).sum()) == 0, f"gradient {other}"
            continue
        compare(g, e, "gradient", STEEP.get(op.name, 1e-8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool], ids=str)
@pytest.mark.parametrize("op", CHOSEN, ids=name_of)
def test_values_in_other_dtypes(op: Any, dtype: Any):
    if not op.supports_dtype(dtype, "cpu"):
        pytest.skip(f"the op takes no {dtype}")
    ours = ours_of(op)
    for i, sample in enumerate(first_samples(op, dtype, False)[:60]):
        with sample_of(op, i, sample):
            ours_in = converted([sample.input, list(sample.args), sample.kwargs], False)
            expected = op(sample.input, *sample.args, **sample.kwargs)
            got = ours(ours_in[0], *ours_in[1], **ours_in[2])
            pairs = list(zip(flat(got, gradient.Tensor), flat(expected, torch.Tensor), strict=True))
            if op.name in SIGNLESS:
                pairs = [(g.abs(), e.abs()) for g, e in pairs]
            for g, e in pairs:
                ties = op.name in TIES and not dtype.is_floating_point
                if ties and e is pairs[-1][1]:  # the indices
                    g, e = g * 0, e * 0
                compare(g, e, "result", ROUGH.get(op.name, 1e-4))


def test_the_list_names_entries_alone(tell: Callable[[str], None]):
    """And tells how many pass: of the differentiable entries, by unique name, those none of whose
    variants is listed."""
    assert not LISTED.keys() - {name_of(op) for op in op_db}
    assert {name_of(op) for op in op_db} - LISTED.keys() == {name_of(op) for op in CHOSEN}
    names = {op.name for op in DIFFERENTIABLE}
    passed = names - {op.name for op in DIFFERENTIABLE if name_of(op) in LISTED}
    counted = {name for name in names if not outside(name)}
    tell(
        f"OpInfos: passed {len(passed & counted)} of {len(counted)} (with Fourier transforms, "
        f"copies, sparse, random and internal ones: {len(passed)} of {len(names)})"
    )


def outside(name: str) -> bool:
    """Whether an entry is none of PyTorch's public functions of real numbers."""
    words = ("rrelu", "fractional_max_pool", "bernoulli", "dropout", "sparse")
    return (
        name.startswith(("_", "torch.ops", "fft."))
        or name.endswith("_copy") and name != "index_copy"
        or name == "normal"
        or any(word in name for word in words)
    )  # fmt: skip
