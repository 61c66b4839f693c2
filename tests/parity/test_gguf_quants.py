"""Packed dtypes against the `gguf` package: every bit of what is unpacked, and of what is packed
where that package packs."""

from __future__ import annotations

import numpy as np
import pytest

from gradient import backends
from gradient.dtypes import PACKED, BlockDType
from support.array_backends import PROOFS
from support.packed_reference import REFERENCES

pytestmark = pytest.mark.parity

BLOCKS = [dtype for dtype in PACKED if isinstance(dtype, BlockDType)]
PACKED_THERE = [d for d in BLOCKS if REFERENCES[d.name].packed_by_gguf]


@pytest.fixture(scope="module")
def gguf():
    return pytest.importorskip("gguf")


def kind(gguf, dtype):
    return getattr(gguf.GGMLQuantizationType, dtype.name.upper())


def dequantized(gguf, blocks: np.ndarray, dtype) -> np.ndarray:
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(blocks.reshape(len(blocks), -1), kind(gguf, dtype))


def every_scale(dtype: BlockDType) -> np.ndarray:
    """Blocks whose 16-bit scales take every bit pattern: subnormal, infinite and nan ones too."""
    rng = np.random.default_rng(1)
    patterns = np.arange(1 << 16, dtype="<u2")
    blocks = rng.integers(0, 256, (len(patterns), 1, dtype.block_bytes), dtype=np.uint8)
    for start in REFERENCES[dtype.name].float16:
        rng.shuffle(patterns)
        blocks[:, 0, start : start + 2] = patterns.view(np.uint8).reshape(-1, 2)
    return blocks


@pytest.mark.parametrize("dtype", BLOCKS, ids=lambda d: d.name)
def test_sizes(gguf, dtype):
    assert gguf.GGML_QUANT_SIZES[kind(gguf, dtype)] == (dtype.block_size, dtype.block_bytes)


@pytest.mark.parametrize("place", ["device", *PROOFS])
@pytest.mark.parametrize("dtype", BLOCKS, ids=lambda d: d.name)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_unpacked_bits(gguf, dtype, place, device):
    """Any bytes are a block. All bits agree; of nan, on the CPU, even which one it is."""
    backend = backends.get(device if place == "device" else place)
    blocks = np.random.default_rng(0).integers(0, 256, (64, 5, dtype.block_bytes), dtype=np.uint8)
    got = np.asarray(backend.to_numpy(dtype.unpack(backend, (backend.asarray(blocks),))))
    expected = dequantized(gguf, blocks, dtype)
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    number = ~np.isnan(expected) if place == "device" and device != "cpu" else ...
    np.testing.assert_array_equal(got.view("u4")[number], expected.view("u4")[number])
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))


@pytest.mark.parametrize("dtype", BLOCKS, ids=lambda d: d.name)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_unpacked_bits_of_every_scale(gguf, dtype):
    backend = backends.get("cpu")
    blocks = every_scale(dtype)
    got = np.asarray(dtype.unpack(backend, (blocks,)))
    np.testing.assert_array_equal(got.view("u4"), dequantized(gguf, blocks, dtype).view("u4"))


@pytest.mark.parametrize("spread", ["normal", "outliers", "constant", "zero", "one sign"])
@pytest.mark.parametrize("dtype", PACKED_THERE, ids=lambda d: d.name)
def test_packed_bits(gguf, dtype, spread):
    rng = np.random.default_rng(2)
    x = {
        "normal": rng.standard_normal((64, 256)),
        "outliers": rng.standard_t(2, (64, 256)),
        "constant": np.full((4, 256), -0.37),
        "zero": np.zeros((4, 256)),
        "one sign": rng.uniform(0.5, 1.0, (64, 256)),
    }[spread].astype(np.float32)
    (got,) = dtype.pack(x)
    expected = gguf.quants.quantize(x, kind(gguf, dtype))
    np.testing.assert_array_equal(got.reshape(expected.shape), expected)


@pytest.mark.parametrize("dtype", BLOCKS, ids=lambda d: d.name)
def test_what_is_packed_here_reads_there(gguf, dtype):
    """Through the reader of that package, the error is what it is through ours."""
    x = np.random.default_rng(3).standard_normal((16, 512)).astype(np.float32)
    (blocks,) = dtype.pack(x)
    backend = backends.get("cpu")
    got = np.asarray(dtype.unpack(backend, (blocks,)))
    np.testing.assert_array_equal(got, dequantized(gguf, blocks, dtype))
