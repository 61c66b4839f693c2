"""8-bit floats as PyTorch rounds, limits and prints them."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402

KINDS = ["float8_e4m3fn", "float8_e5m2"]
BITS = np.random.default_rng(0).integers(0, 1 << 32, 1 << 18, np.uint32)
HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int32"])
def test_casts_have_its_bits(kind, dtype):
    """Of all float16 numbers, and of random bits: NaNs of both signs, infinities, subnormals."""
    values = HALVES.astype(np.float32)
    if dtype.startswith("float32") or dtype == "float64":
        values = np.concatenate([values, BITS.view(np.float32)])
    if dtype == "int32":
        values = np.arange(-70000, 70000, dtype=np.float32)
    if dtype == "bfloat16":
        values = values[~np.isnan(values)]  # its own NaN changes its sign on the way
    ours = gradient.tensor(values).to(getattr(gradient, dtype)).to(getattr(gradient, kind))
    theirs = torch.tensor(values).to(getattr(torch, dtype)).to(getattr(torch, kind))
    np.testing.assert_array_equal(
        ours.view(gradient.uint8).numpy(), theirs.view(torch.uint8).numpy()
    )
    for back in ("float32", "float16", "bfloat16", "float64", "bool"):
        got, expected = ours.to(getattr(gradient, back)), theirs.to(getattr(torch, back))
        np.testing.assert_array_equal(
            got.to(gradient.float64).numpy(), expected.to(torch.float64).numpy()
        )


@pytest.mark.parametrize("kind", KINDS)
def test_limits_are_its_own(kind):
    ours, theirs = gradient.finfo(getattr(gradient, kind)), torch.finfo(getattr(torch, kind))
    for name in ("bits", "eps", "max", "min", "tiny", "smallest_normal", "resolution", "dtype"):
        assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [1.5, [], [[1.0, -0.0, 448.0], [float("nan"), 0.3, 1e9]]])
def test_they_print_alike(kind, values):
    ours = gradient.tensor(values, dtype=gradient.float32).to(getattr(gradient, kind))
    theirs = torch.tensor(values, dtype=torch.float32).to(getattr(torch, kind))
    assert repr(ours).replace("gradient.", "torch.") == repr(theirs)


def test_it_reads_our_files_and_we_its(tmp_path):
    from safetensors.torch import load_file, save_file

    from gradient.io import safetensors

    x = torch.randn(3, 5).to(torch.float8_e4m3fn)
    kept = {"a": x, "b": x.to(torch.float8_e5m2), "c": x[0, 0].clone()}
    save_file(kept, tmp_path / "theirs")
    ours = safetensors.load_file(tmp_path / "theirs")
    safetensors.save_file(ours, tmp_path / "ours")
    again = load_file(tmp_path / "ours")
    for name, value in kept.items():
        assert again[name].dtype == value.dtype
        assert torch.equal(again[name].view(torch.uint8), value.view(torch.uint8))


@pytest.mark.parametrize("result", ["float32", "bfloat16", "float16", None])
@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_scaled_mm(result, by_rows, bias):
    rng = np.random.default_rng(1)
    left, right = rng.standard_normal((2, 16, 32)).astype(np.float32)
    shapes = ((16, 1), (1, 16)) if by_rows else ((), ())
    scales = [rng.random(shape, np.float32) for shape in shapes]
    added = rng.standard_normal(16).astype(np.float32) if bias else None

    def product(lib):
        a, b = (lib.tensor(x).to(lib.float8_e4m3fn) for x in (left, right))
        options = {} if result is None else {"out_dtype": getattr(lib, result)}
        given = None if added is None else lib.tensor(added)
        y = lib._scaled_mm(a, b.t(), *map(lib.tensor, scales), bias=given, **options)
        return str(y.dtype).split(".")[1], y.to(lib.float32).numpy()

    (ours, x), (theirs, y) = product(gradient), product(torch)
    assert ours == theirs
    # A code apart where its CPU rounds to float16 before it rounds to 8 bits.
    limit = {"float32": 1e-5, "bfloat16": 8e-3, "float16": 1e-3}.get(result, 0.13)
    np.testing.assert_allclose(x, y, rtol=limit, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scaled_product_of_8_bits_is_rounded_once(kind):
    """As PyTorch's GPU has it; its CPU rounds to float16 first, where that has the same bits."""
    left, right = np.random.default_rng(1).standard_normal((2, 64, 128)).astype(np.float32)

    def product(lib, out):
        a, b = (lib.tensor(x).to(getattr(lib, kind)) for x in (left, right))
        return lib._scaled_mm(a, b.t(), *map(lib.tensor, (0.5, 1.0)), out_dtype=getattr(lib, out))

    wide = product(torch, "float32")
    ours = product(gradient, kind).view(gradient.uint8).numpy()
    once, theirs = (
        t.view(torch.uint8).numpy() for t in (wide.to(getattr(torch, kind)), product(torch, kind))
    )
    np.testing.assert_array_equal(ours, once)
    same = wide == wide.half()
    assert same.any()
    np.testing.assert_array_equal(ours[same], theirs[same])
