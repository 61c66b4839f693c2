"""Products with packed weights in panels, x rounded to int8: the kernels of `linear` on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import gradient
import gradient.nn.functional as F
from gradient import backends, dtypes
from gradient.backends.numpy import kernels, panels, threads
from gradient.backends.packed import PackedArray
from gradient.dtypes import PACKED, bfloat16, float16
from gradient.errors import ArgumentError
from gradient.io import gguf
from gradient.quantization import quantize
from support.packed_reference import REFERENCES

pytestmark = pytest.mark.cpu_only

FORMATS = [dtype.name for dtype in PACKED if REFERENCES[dtype.name].kernels]
EVERY = pytest.mark.parametrize("name", FORMATS)
BE = backends.get("cpu")


@pytest.fixture(autouse=True)
def small_weights_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(kernels, "MIN_SIZE", 1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_formats_with_kernels() -> None:
    assert set(kernels.load("panels").BY_NAME) == set(FORMATS)


def pack(rng: np.random.Generator, name: str, n: int, k: int, size: float = 1.0) -> PackedArray:
    dtype = dtypes.dtype_of(name)
    values = size * rng.standard_normal((n, k), dtype=np.float32)
    return PackedArray(dtype, (n, k), dtype.pack(values))


def product(x: np.ndarray, weight: PackedArray) -> np.ndarray:
    assert panels.supported(x, weight)
    return BE.int8_matmul(x, weight)


def check(x: np.ndarray, weight: PackedArray) -> None:
    """Within the error that the documentation of `set_quantized_matmul_precision` states."""
    got = product(x, weight).astype(np.float64)
    w, wide = BE.unpack(weight).astype(np.float64), x.astype(np.float64)
    padding = ((0, 0), (0, -x.shape[1] % 32))
    largest = np.abs(np.pad(wide, padding)).reshape(len(x), -1, 32).max(-1)
    sums = np.abs(np.pad(w, padding)).reshape(len(w), -1, 32).sum(-1)
    # And the rounding of float32: of 3 K / 32 numbers to each output, and of what is subnormal.
    bound = largest @ sums.T * (1 / 254 + x.shape[1] / 8 * 2.0**-24) + 2.0**-100 * sums.sum(-1)
    np.testing.assert_array_less(np.abs(got - wide @ w.T), bound + 1e-38)


@EVERY
@pytest.mark.parametrize("n", [1, 17, 32, 131])
@pytest.mark.parametrize("k", [32, 256, 288, 1280])
def test_the_error_is_that_of_rounding_x(
    name: str, n: int, k: int, rng: np.random.Generator
) -> None:
    if k % dtypes.dtype_of(name).block_size:
        k = 512
    weight = pack(rng, name, n, k)
    for m in (1, 2, 3, 7, 12, 13, 29):
        check(rng.standard_normal((m, k), dtype=np.float32), weight)


def test_where_codes_and_scales_lie(rng: np.random.Generator) -> None:
    """As the docstring of `kernels/panels.py` draws it, with zeros in place of missing rows."""
    codes = rng.integers(0, 32, (37, 3, 32), np.uint8)
    halves = rng.integers(0, 1 << 15, (37, 3), np.uint16)
    blocks = np.zeros((37, 3, 22), np.uint8)
    blocks[..., :2] = halves[..., None].view(np.uint8)
    blocks[..., 2:6] = np.packbits(codes >> 4, -1, "little")
    blocks[..., 6:] = codes[..., :16] & 15 | codes[..., 16:] << 4
    dtype = dtypes.dtype_of("q5_0")
    made = panels.arranged(PackedArray(dtype, (37, 96), (blocks,)))

    found = made.panels.reshape(2, 3, 2 * 16 * 2 + 5 * 2 * 64)  # pair, block
    scales, words = np.split(found, [64], axis=2)
    words = words.reshape(2, 3, 5, 2, 16, 4)  # pair, block, word, panel, row, byte
    low, high = words[:, :, [0, 2, 3, 4]], words[:, :, 1]
    got = np.zeros((2, 2, 16, 3, 8, 4), np.uint8)  # pair, panel, row, block, word, byte
    for j in range(8):
        code = low[:, :, j % 4] >> 4 * (j // 4) & 15 | (high >> j & 1) << 4
        got[..., j, :] = np.moveaxis(code, 1, 3)
    padded = np.zeros((64, 3, 32), np.uint8)
    padded[:37] = codes
    np.testing.assert_array_equal(got.reshape(64, 3, 32), padded)
    expected = np.zeros((64, 3), np.uint16)
    expected[:37] = halves
    scales = np.ascontiguousarray(scales).view(np.uint16)
    np.testing.assert_array_equal(np.moveaxis(scales, 1, 2).reshape(64, 3), expected)


def test_an_odd_vocabulary(rng: np.random.Generator) -> None:
    check(rng.standard_normal((3, 64), dtype=np.float32), pack(rng, "q4_0", 50257, 64))


@EVERY
@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e-3, 1e3, 1e30])
def test_numbers_of_any_size(name: str, size: float, rng: np.random.Generator) -> None:
    x = np.float32(size) * rng.standard_normal((5, 256), dtype=np.float32)
    x[1, 32:64] *= np.float32(1e-6)  # a block has a scale of its own
    x[2] = 0
    check(x, pack(rng, name, 37, 256))
    assert not product(x, pack(rng, name, 37, 256))[2].any()


@EVERY
def test_a_weight_of_zeros(name: str, rng: np.random.Generator) -> None:
    weight = pack(rng, name, 37, 256, 0.0)
    assert not product(rng.standard_normal((3, 256), dtype=np.float32), weight).any()


@EVERY
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_row_alone(
    name: str, value: float, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((7, 512), dtype=np.float32)
    weight = pack(rng, name, 70, 512)
    expected = product(x, weight)
    x[3, 300] = value
    got = product(x, weight)
    assert np.isnan(got[3]).all()
    np.testing.assert_array_equal(np.delete(got, 3, 0), np.delete(expected, 3, 0))


@EVERY
def test_rows_do_not_depend_on_their_number(name: str, rng: np.random.Generator) -> None:
    weight, x = pack(rng, name, 83, 512), rng.standard_normal((41, 512), dtype=np.float32)
    together = product(x, weight)
    for start, count in [(0, 1), (5, 2), (7, 3), (20, 4), (1, 5), (3, 11), (12, 12), (0, 29)]:
        some = slice(start, start + count)
        np.testing.assert_array_equal(product(x[some], weight), together[some])


@EVERY
def test_threads_do_not_change_results(
    name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panels, "CHUNK", 1)
    monkeypatch.setattr(panels, "ROWS_CHUNK", 1)
    values, before = rng.standard_normal((40, 256), dtype=np.float32), threads.get_num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            threads.set_num_threads(n)
            weight = pack(np.random.default_rng(1), name, 300, 256)
            results.append([product(values, weight), product(values[:1], weight)])
    finally:
        threads.set_num_threads(before)
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(got, expected)


# Through `F.linear` -------------------------------------------------------------------------------


@pytest.fixture
def precision() -> Iterator[None]:
    yield
    gradient.set_quantized_matmul_precision("default")


@pytest.mark.parametrize("dtype", [gradient.float32, gradient.float16, gradient.bfloat16])
@pytest.mark.parametrize("biased", [False, True])
def test_x_is_rounded_where_nothing_is_recorded(
    dtype: gradient.dtype, biased: bool, precision: None
) -> None:
    x, weight = gradient.randn(2, 3, 256).to(dtype), quantize(gradient.randn(64, 256), "q8_0")
    bias = gradient.randn(64).to(dtype) if biased else None
    exact = F.linear(x, weight, bias)
    with gradient.no_grad():
        rounded = F.linear(x, weight, bias)
        gradient.set_quantized_matmul_precision("exact")
        assert gradient.get_quantized_matmul_precision() == "exact"
        again = F.linear(x, weight, bias)
    assert gradient.equal(exact, again)
    assert rounded.shape == exact.shape and rounded.dtype is dtype
    difference = (rounded - exact).abs().max().item()
    assert 0 < difference < 1
    wide = BE.int8_matmul(x.array.astype(np.float32), weight.array)
    wide = wide if bias is None else wide + bias.array.astype(np.float32)
    np.testing.assert_array_equal(rounded.array, wide.astype(x.array.dtype))


def test_precision_is_one_of_two() -> None:
    assert gradient.get_quantized_matmul_precision() == "default"
    with pytest.raises(ArgumentError, match="expected 'default' or 'exact', got 'fast'"):
        gradient.set_quantized_matmul_precision("fast")


def test_gradients_are_exact() -> None:
    weight = quantize(gradient.randn(64, 256), "q4_k")
    x = gradient.randn(3, 256, requires_grad=True)
    g = gradient.randn(3, 64)
    (got,) = gradient.autograd.grad(F.linear(x, weight), x, g)
    np.testing.assert_allclose(got.array, g.array @ BE.unpack(weight.array), atol=1e-4)


@EVERY
def test_a_write_is_noticed(name: str) -> None:
    """Panels are made of the blocks, again after a write to them, by whichever name."""
    weight, other = (quantize(gradient.randn(64, 512), name) for _ in range(2))
    x = gradient.randn(1, 512)
    view = weight[16:48]
    with gradient.no_grad():
        before = F.linear(x, weight)
        assert gradient.equal(F.linear(x, view), before[:, 16:48])
        view.copy_(other[16:48])
        after, expected = F.linear(x, weight), F.linear(x, other)
        assert gradient.equal(after[:, 16:48], expected[:, 16:48])
        assert gradient.equal(F.linear(x, view), expected[:, 16:48])
        assert gradient.equal(after[:, :16], before[:, :16])
        weight.copy_(other)
        assert gradient.equal(F.linear(x, weight), expected)


def test_blocks_of_a_file_stay_and_their_memory_goes(tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "weights.gguf")
    weight = quantize(gradient.randn(1024, 2048), "q4_0")
    gguf.write(path, {"general.architecture": "none"}, {"w": weight})
    mapped = gguf.GGUFFile(path)["w"]
    blocks = mapped.array.parts[0]
    assert _resident(blocks) < blocks.nbytes // 4
    blocks.sum()
    assert _resident(blocks) > blocks.nbytes // 2
    with gradient.no_grad():
        y = F.linear(gradient.ones(1, 2048), mapped)
        assert _resident(blocks) < blocks.nbytes // 16
        assert gradient.equal(F.linear(gradient.ones(1, 2048), weight), y)
    assert gradient.equal(mapped, weight)
    np.testing.assert_array_equal(blocks, weight.array.parts[0])


def _resident(array: np.ndarray) -> int:
    """Bytes of the file that lies at an array's address which are in this process's memory."""
    found, inside = 0, False
    with open("/proc/self/smaps") as lines:
        for line in lines:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                start, stop = (int(end, 16) for end in words[0].split("-"))
                inside = start <= array.ctypes.data < stop
            elif inside and words[0] == "Rss:":
                found = 1024 * int(words[1])
    return found


@pytest.mark.parametrize("narrow", [float16.numpy, bfloat16.numpy, np.dtype(np.float64)], ids=str)
def test_other_dtypes_of_x(narrow: np.dtype, rng: np.random.Generator) -> None:
    weight, x = pack(rng, "q8_0", 32, 64), rng.standard_normal((2, 64)).astype(narrow)
    y = BE.int8_matmul(x, weight)
    assert y.dtype == narrow
    wide = BE.int8_matmul(x.astype(np.float32), weight)
    np.testing.assert_allclose(y.astype(np.float64), wide, atol=0.2)


# Other processors ---------------------------------------------------------------------------------

SCRIPT = """
import sys
import numpy as np
from gradient import backends, dtypes
from gradient.backends.numpy import kernels
from gradient.backends.packed import PackedArray
kernels.MIN_SIZE = 1
found = {}
for name in sys.argv[2:]:
    rng = np.random.default_rng(0)
    dtype = dtypes.dtype_of(name)
    values = rng.standard_normal((70, 512), dtype=np.float32)
    weight = PackedArray(dtype, (70, 512), dtype.pack(values))
    x = rng.standard_normal((41, 512), dtype=np.float32)
    products = [backends.get("cpu").int8_matmul(part, weight) for part in (x, x[:1])]
    found[name] = np.concatenate(products)
np.savez(sys.argv[1], **found)
"""


def _run(path: str, out: str, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, out, *names],
        env={**os.environ, "GRADIENT_CPU": path},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def own_products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What this processor's own path gives, by the name of the packed dtype."""
    out = str(tmp_path_factory.mktemp("own") / "out.npz")
    done = _run("", out, "q8_0", "q5_1", "q3_k", "q4_k", "iq4_xs", "nf4")
    assert done.returncode == 0, done.stderr
    return dict(np.load(out))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("avx512bf16", ("q8_0", "nf4")),
        ("avx512vnni", ("q8_0", "q5_1", "q3_k", "q4_k", "iq4_xs", "nf4")),
        ("avx2", ("q8_0", "q5_1", "q3_k", "q4_k", "iq4_xs", "nf4")),
        ("generic", ("q8_0", "q3_k", "q4_k", "nf4")),
    ],
)
def test_paths_agree(
    path: str, names: tuple[str, ...], own_products: dict[str, np.ndarray], tmp_path: Path
) -> None:
    out = str(tmp_path / "out.npz")
    done = _run(path, out, *names)
    if "expected one of" in done.stderr:
        pytest.skip(f"this processor cannot run {path}")
    assert done.returncode == 0, done.stderr
    other = np.load(out)
    assert set(other) == set(names)
    for name in names:
        np.testing.assert_allclose(
            other[name], own_products[name], atol=1e-4, rtol=1e-5, err_msg=name
        )


@pytest.mark.slow
@pytest.mark.parametrize(("path", "has"), [("avx512bf16", True), ("avx512vnni", False)])
def test_a_path_has_its_own_instructions_alone(path: str, has: bool) -> None:
    code = "from gradient.backends.numpy.kernels import cpu; print(cpu.MULTIPLIES_BFLOAT16)"
    environment = {**os.environ, "GRADIENT_CPU": path}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if "expected one of" in done.stderr:
        pytest.skip(f"this processor cannot run {path}")
    assert done.stdout.split() == [str(has)], done.stderr


def test_a_processor_that_this_one_is_not(tmp_path: object) -> None:
    done = _run("sparc", os.path.join(str(tmp_path), "out.npz"), "q8_0")
    assert "GRADIENT_CPU: expected one of" in done.stderr and "got 'sparc'" in done.stderr


@EVERY
@pytest.mark.parametrize(("n", "k"), [(33, 256), (160, 1536), (7, 768)])
def test_tiles_give_the_bits_of_vectors(
    name: str, n: int, k: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernels.load("cpu").PATH != "amx":
        pytest.skip("this processor has no tiles")
    weight = pack(rng, name, n, k)
    for rows in (16, 17, 31, 48, 130):
        x = rng.standard_normal((rows, k), dtype=np.float32)
        x[rows // 2, 5], x[3] = np.nan, 0
        monkeypatch.setattr(panels, "TILE_ROWS", 1 << 30)
        by_vectors = product(x, weight)
        monkeypatch.setattr(panels, "TILE_ROWS", 1)
        np.testing.assert_array_equal(product(x, weight), by_vectors)


def test_instructions_for_tiles() -> None:
    """LLVM compiles them for processors that have them, which this one need not."""
    from llvmlite import binding, ir

    own = kernels.load("amx")
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    module = ir.Module()
    module.triple = "x86_64-linux-gnu"
    place = own.I8.as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [place, own.I64]), "products")
    builder = ir.IRBuilder(function.append_basic_block())
    own.load(builder, 6, *function.args)
    own.load(builder, 7, *function.args)
    own.zero(builder, 0)
    own.add_bytes(builder, 0, 6, 7, True)
    own.add_bytes(builder, 1, 6, 7, False)
    own.add_bfloat16(builder, 2, 6, 7)
    own.store(builder, 0, *function.args)
    builder.ret_void()
    machine = binding.Target.from_triple(module.triple).create_target_machine(
        cpu="sapphirerapids", opt=2
    )
    assembly = machine.emit_assembly(binding.parse_assembly(str(module)))
    for instruction in ("tileloadd", "tilezero", "tdpbssd", "tdpbsud", "tdpbf16ps", "tilestored"):
        assert instruction in assembly


NAMES_OF_TAGS = """
import numba
from numba.core import itanium_mangler
from gradient.backends.numpy.kernels import formats, panels
for name in reversed(formats.NAMES):
    print(name, itanium_mangler.mangle_type(numba.typeof(formats.tag_of(name))))
"""


def test_kernels_of_each_format_have_a_name_of_their_own_in_every_process() -> None:
    """A process that loads kernels which others compiled finds them by name."""
    numba = pytest.importorskip("numba")
    from numba.core import itanium_mangler

    tags = kernels.load("formats")
    own = {
        name: itanium_mangler.mangle_type(numba.typeof(tags.tag_of(name))) for name in tags.NAMES
    }
    assert len(set(own.values())) == len(own)
    done = subprocess.run(
        [sys.executable, "-c", NAMES_OF_TAGS], capture_output=True, text=True, check=True
    )
    assert dict(line.split() for line in done.stdout.splitlines()) == own


@pytest.mark.parametrize(
    ("path", "triple", "processor", "features", "instructions"),
    [
        ("neon", "aarch64-linux-gnu", "", "+dotprod,+neon", ("sdot", "tbl")),
        ("avxvnni", "x86_64-linux-gnu", "alderlake", "", ("vpdpbusd", "vpshufb")),
        ("avx2", "x86_64-linux-gnu", "haswell", "", ("vpmaddubsw", "vpmaddwd", "vpshufb")),
    ],
)
def test_instructions_of_other_processors(
    path: str,
    triple: str,
    processor: str,
    features: str,
    instructions: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """LLVM compiles them for their target; what they compute is tried where they can run."""
    from llvmlite import binding, ir

    kernels.load("formats")  # numba has set LLVM up
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    own = kernels.load("instructions")
    monkeypatch.setattr(kernels.load("cpu"), "PATH", path)
    module, vector = ir.Module(), own.INTEGERS
    module.triple = triple
    function = ir.Function(module, ir.FunctionType(vector, [vector] * 3), "products")
    builder = ir.IRBuilder(function.append_basic_block())
    total, codes, x = function.args
    total = own.dot(builder, total, own.looked_up(builder, list(range(16)), codes), x, 8)
    builder.ret(own.dot(builder, total, codes, x, 5))
    machine = binding.Target.from_triple(triple).create_target_machine(
        cpu=processor, features=features, opt=2
    )
    assembly = machine.emit_assembly(binding.parse_assembly(str(module)))
    for instruction in instructions:
        assert instruction in assembly
