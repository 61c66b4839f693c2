"""Float32 products by the kernels for matrices in any layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends
from gradient.backends.numpy import backend, blas, gemm, kernels, linear, small_products, threads

pytestmark = pytest.mark.cpu_only

be: Any = backends.get("cpu")

SIZES = [
    *((1, 1, 1), (12, 16, 32), (13, 17, 33), (11, 300, 31), (25, 257, 70), (6, 1, 16)),
    *((100, 256, 64), (7, 600, 9), (40, 50, 129), (64, 800, 64), (70, 1601, 40)),
]
"""Rows, k and columns: whole tiles, parts of them, one block of k and several."""


def in_parts(x: np.ndarray) -> np.ndarray:
    """Every other row and third column of a larger array; what lies between is NaN."""
    large = np.full((*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1]), np.nan, np.float32)
    large[..., ::2, ::3] = x
    return large[..., ::2, ::3]


def read_only(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda x: x,
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "in parts": in_parts,
    "read-only": read_only,
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def forget_layouts() -> None:
    gemm._layout.cache_clear()
    small_products._call.cache_clear()


@pytest.fixture(params=["small", "vectors", "tiles"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Has small products go to a kernel too: that for small matrices, that of float32 vectors, or
    that of tiles of parts."""
    if not gemm._is_compiled():
        pytest.skip("no kernels for this processor")
    tiles = request.param == "tiles"
    if tiles and kernels.load("cpu").PATH != "amx":
        pytest.skip("this processor has no tiles")
    monkeypatch.setattr(gemm, "_is_split", lambda *sizes: tiles)
    monkeypatch.setattr(gemm, "SMALL_PRODUCTS", 1 << 62 if request.param == "small" else 0)
    forget_layouts()
    for name in ("FEW_PRODUCTS", "FEW_ROWS", "FEW_COLUMNS"):
        monkeypatch.setattr(gemm, name, 0)
    monkeypatch.setattr(blas, "ONE_THREAD", 0)  # up to which a product is NumPy's at once
    monkeypatch.setattr(backend, "SMALL", 0)
    yield str(request.param)
    forget_layouts()


@pytest.fixture
def pool() -> Iterator[Callable[[int], None]]:
    before = threads.get_num_threads()
    yield threads.set_num_threads
    threads.set_num_threads(before)


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def check(got: np.ndarray, a: np.ndarray, b: np.ndarray, bias: Any = 0.0) -> None:
    a, b = a.astype(np.float64), b.astype(np.float64)
    terms = np.abs(a) @ np.abs(b) + np.abs(bias)
    assert got.dtype == np.float32
    assert (np.abs(got - (a @ b + bias)) <= (a.shape[-1] + 2) * 2.0**-24 * terms).all()


@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_layouts(sizes: tuple[int, int, int], first: str, second: str, rng: Any) -> None:
    m, k, n = sizes
    a, b = LAYOUTS[first](draw(rng, m, k)), LAYOUTS[second](draw(rng, k, n))
    assert gemm.takes(a, b)
    check(be.matmul(a, b), a, b)


def test_fields_of_records(rng: Any) -> None:
    """Their numbers are 5 bytes apart, or their rows 4 n + 1."""
    x, weight = draw(rng, 14, 40), draw(rng, 33, 40)
    for field in (("value", "f4"), ("value", "f4", (40,))):
        records = np.zeros((14, 40)[: 4 - len(field)], [("flag", "i1"), field])
        records["value"] = x
        check(be.matmul(records["value"], weight.T), x, weight.T)
        check(be.linear(records["value"], weight), x, weight.T)
        check(be.matmul(weight, records["value"].T), weight, x.T)


@pytest.mark.parametrize("blocks", [(12, 32), (24, 96), (36, 64)])
def test_blocks_do_not_change_a_bit(blocks: tuple[int, int], monkeypatch: Any, rng: Any) -> None:
    a, b, bias = draw(rng, 70, 520), draw(rng, 200, 520), draw(rng, 200)
    products = [lambda: be.matmul(a, b.T), lambda: gemm.GemmKernels.linear(be, a, b, bias)]
    expected = [product() for product in products]
    monkeypatch.setattr(gemm, "_blocks", lambda *sizes: blocks)
    forget_layouts()
    for product, whole in zip(products, expected, strict=True):
        assert product().tobytes() == whole.tobytes()
    assert be.matmul(a[5:30], b[9:75].T).tobytes() == expected[0][5:30, 9:75].tobytes()


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 1, 1), (5, 2000, 3, 1), (128, 512, 784, 1), (1040, 192, 768, 1), (64, 64, 64, 48),
     (1024, 50257, 768, 1), (20000, 40, 16, 2)],
    ids=str,
)  # fmt: skip
def test_blocks_are_whole_tiles_shared_by_threads(sizes: Any, workers: int, way: str) -> None:
    m, n, k, matrices = sizes
    rows, columns = gemm._blocks(*sizes, workers, way == "tiles")
    family = kernels.load("gemm")
    height, width, widest = family.ROWS, family.PAIR, family.COLUMNS
    if way == "tiles":
        products = kernels.load("split_products")
        height, width, widest = products.PAIR, products.PAIR, products.widest(k)
    assert rows % height == columns % width == 0
    assert rows < m + height
    assert columns <= min(widest, n + width - 1)
    blocks = matrices * -(-m // rows) * -(-n // columns)
    assert math.prod(sizes) < 2 * gemm.BLOCK_PRODUCTS * workers or blocks >= workers


@pytest.mark.parametrize(
    ("left", "right"),
    [((2, 150, 300), (300, 170)), ((300, 1), (1, 400)), ((300, 40), (40, 7)), ((5, 900), (900, 9))],
    ids=["blocks", "outer", "narrow", "few rows"],
)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_threads_do_not_change_a_bit(
    number: int, left: Any, right: Any, pool: Any, rng: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(gemm, "_blocks", lambda *sizes: (36, 64))
    forget_layouts()
    a, b = draw(rng, *left), draw(rng, *right)
    pool(1)
    expected = be.matmul(a, b)
    pool(number)
    for _ in range(20):
        assert be.matmul(a, b).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 20, 30), (3, 30, 40)), ((20, 30), (3, 30, 40)), ((3, 20, 30), (30, 40)),
        ((2, 1, 20, 30), (3, 30, 40)), ((1, 20, 30), (4, 1, 30, 40)), ((2, 3, 5, 7), (2, 1, 7, 5)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batches(a: tuple[int, ...], b: tuple[int, ...], layout: str, rng: Any) -> None:
    x, y = LAYOUTS[layout](draw(rng, *a)), LAYOUTS[layout](draw(rng, *b))
    assert gemm.takes(x, y)
    check(be.matmul(x, y), x, y)


def test_heads_and_expanded_batches(rng: Any) -> None:
    q = draw(rng, 2, 30, 4, 16)  # as attention splits its heads
    x, y = q.transpose(0, 2, 1, 3), q.transpose(0, 2, 3, 1)
    check(be.matmul(x, y), x, y)
    same = np.broadcast_to(draw(rng, 20, 16), (5, 20, 16))
    other = np.broadcast_to(np.float32(3), (5, 16, 8))
    check(be.matmul(same, other), same, other)


def test_nothing_to_multiply() -> None:
    for a, b in [((0, 5), (5, 3)), ((5, 0), (0, 3)), ((5, 3), (3, 0)), ((0, 5, 3), (3, 4))]:
        x, y = np.ones(a, np.float32), np.ones(b, np.float32)
        assert not gemm.takes(x, y)
        np.testing.assert_array_equal(be.matmul(x, y), np.matmul(x, y))
    with pytest.raises(gradient.errors.GradientError):
        gradient.ones(20, 30) @ gradient.ones(31, 40)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_special_numbers_stay_in_their_rows_and_columns(special: float, rng: Any) -> None:
    a, b = draw(rng, 29, 270), draw(rng, 270, 45)
    expected = be.matmul(a, b)
    a[13, 262] = special
    got = be.matmul(a, b)
    np.testing.assert_array_equal(np.delete(got, 13, 0), np.delete(expected, 13, 0))
    assert not np.isfinite(got[13]).any()
    a[13, 262] = 0
    b[3, 44] = special
    got = be.matmul(a, b)
    np.testing.assert_array_equal(np.isfinite(got[:, 44]), np.zeros(29, bool))
    assert np.isfinite(got[:, :44]).all()


def test_linear_has_the_bits_of_the_kernel_for_few_rows(rng: Any) -> None:
    weight, bias, x = draw(rng, 130, 700), draw(rng, 130), draw(rng, 2, 40, 700)
    assert not linear.takes(weight, x, bias)
    got = be.linear(x, weight, bias)
    check(got.reshape(80, 130), x.reshape(80, 700), weight.T, bias.astype(np.float64))
    assert linear.takes(weight, x[0, :7], bias)
    assert be.linear(x[0, :7], weight, bias).tobytes() == got[0, :7].tobytes()
    assert be.linear(x, weight).tobytes() != got.tobytes()


def test_offsets_of_a_million(rng: Any) -> None:
    a, b = draw(rng, 30, 300) + np.float32(1e6), draw(rng, 300, 40)
    check(be.matmul(a, b), a, b)


EXTREMES = {
    "tiny": (-44, -32), "large": (19, 37), "small and large": (-30, 18), "denormal": (-45, -38),
}  # fmt: skip
"""Powers of ten of numbers that are no sum of three of bfloat16, or just are."""


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("where", ["a row", "a column", "everywhere"])
@pytest.mark.parametrize("sizes", [(40, 70, 50), (33, 1601, 65)], ids=str)
def test_numbers_of_all_sizes(sizes: Any, where: str, extreme: str, rng: Any) -> None:
    m, k, n = sizes
    a, b = draw(rng, m, k), draw(rng, k, n)
    low, high = EXTREMES[extreme]
    with np.errstate(under="ignore"):
        a *= np.float32(10) ** rng.uniform(low, high, a.shape).astype(np.float32)
    if where == "a row":
        b, a = np.asfortranarray(b), np.where(np.arange(m)[:, None] == m - 3, a, draw(rng, m, k))
    elif where == "a column":
        a, b = b.T, np.where(np.arange(m) == m - 3, a.T, draw(rng, k, m))
    with np.errstate(under="ignore"):  # the test's own products
        got = be.matmul(a, b)
        terms = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
        error = np.abs(got - a.astype(np.float64) @ b.astype(np.float64))
    assert (error <= (k + 2) * (2.0**-24 * terms + 2.0**-149)).all()


def test_large_numbers_overflow_to_infinity(rng: Any) -> None:
    a, b = np.full((40, 70), 3e25, np.float32), np.full((70, 50), 3e25, np.float32)
    assert np.isposinf(be.matmul(a, b)).all()
    assert np.isneginf(be.matmul(-a, b)).all()
    b[::2] = 0
    assert np.isposinf(be.matmul(a, b)).all()
    near = np.full((40, 1), np.float32(1.84e19))  # its square is almost the largest number
    assert np.isfinite(be.matmul(near, near.T)).all()


@pytest.mark.parametrize("size", [2.9e17, 5e18, 9.2e18, 1.8e19])
def test_sums_that_stay_finite_in_order_are(size: float) -> None:
    """Whatever numbers are added together: products of one sign stand at even places of k."""
    a, b = np.full((40, 800), size, np.float32), np.full((800, 50), size, np.float32)
    b[1::2] *= -1
    got = be.matmul(a, b)
    assert (np.abs(got) <= 802 * 2.0**-24 * 800 * size**2).all()


def test_products_near_the_smallest_number(way: str, rng: Any) -> None:
    """Of numbers that are split, six products of parts may be taken for zeros in each."""
    a, b = draw(rng, 40, 300) * np.float32(1e-20), draw(rng, 300, 50) * np.float32(1e-17)
    got = be.matmul(a, b)
    terms = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    error = np.abs(got - a.astype(np.float64) @ b.astype(np.float64))
    least = 2.0**-149 if way == "vectors" else 6 * 2.0**-126
    assert (error <= 302 * (2.0**-24 * terms + least)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_special_numbers_give_what_numpy_gives(layout: str, rng: Any) -> None:
    a, b = draw(rng, 45, 900), draw(rng, 900, 70)
    for x in (a, b):
        places = rng.integers(0, x.size, 8)
        x.reshape(-1)[places] = [np.nan, np.inf, -np.inf, -0.0, 3e30, 1e-40, 0.0, -np.inf]
    with np.errstate(invalid="ignore"):
        expected = a.astype(np.float64) @ b.astype(np.float64)
        got = be.matmul(LAYOUTS[layout](a), LAYOUTS[layout](b))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(expected.astype(np.float32)))
    finite = np.isfinite(got)
    with np.errstate(invalid="ignore"):
        terms = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    error = np.abs(got[finite] - expected[finite])
    assert (error <= 902 * 2.0**-24 * terms[finite]).all()


def test_a_linear_of_many_rows_may_be_split(way: str, rng: Any, monkeypatch: Any) -> None:
    x, weight, bias = draw(rng, 50, 300), draw(rng, 70, 300), draw(rng, 70)
    few = be.linear(x, weight, bias)
    monkeypatch.setattr(gemm, "MANY_ROWS", 49)
    forget_layouts()
    many = be.linear(x, weight, bias)
    check(many, x, weight.T, bias.astype(np.float64))
    assert (few.tobytes() == many.tobytes()) == (way != "tiles")


@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_small_products_have_the_bits_of_large_ones(
    sizes: tuple[int, int, int], first: str, second: str, rng: Any, monkeypatch: Any
) -> None:
    m, k, n = sizes
    a, b, bias = draw(rng, m, k), LAYOUTS[second](draw(rng, k, n)), draw(rng, n)
    a[m // 2, 0], a[m // 3, k // 2], bias[n // 2] = np.inf, np.nan, -np.inf
    a = LAYOUTS[first](a)
    monkeypatch.setattr(gemm, "_is_split", lambda *sizes: False)

    def products() -> list[bytes]:
        forget_layouts()
        made = be.matmul(a, b), be.linear(a, b.T, bias), be.linear(a, b.T), be.matmul(b.T, a.T)
        return [x.tobytes() for x in made]

    monkeypatch.setattr(gemm, "SMALL_PRODUCTS", 1 << 62)
    small = products()
    monkeypatch.setattr(gemm, "SMALL_PRODUCTS", 0)
    assert products() == small


def test_a_product_of_many_small_matrices_is_shared_by_threads(
    pool: Callable[[int], None], rng: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(gemm, "CHUNK_PRODUCTS", 1 << 12)
    monkeypatch.setattr(gemm, "SMALL_PRODUCTS", 1 << 62)
    monkeypatch.setattr(gemm, "_is_split", lambda *sizes: False)
    forget_layouts()
    a, b = draw(rng, 4, 75, 9, 14), draw(rng, 75, 14, 11)
    assert gemm._layout(a.shape, a.strides, b.shape, b.strides, (4, 75, 9, 11), False, 2)[:3] == (
        ("small_products", 300, 2)
    )
    made = []
    for workers in (1, 2, 3):
        pool(workers)
        made.append(be.matmul(a, b))
        check(made[-1], a, b)
    assert made[0].tobytes() == made[1].tobytes() == made[2].tobytes()


def test_layouts_of_many_matrices_are_not_kept(rng: Any) -> None:
    few, many = (draw(rng, n, 3, 4) for n in (gemm.MANY_MATRICES - 1, gemm.MANY_MATRICES))
    for x, kept in ((few, 1), (many, 0)):
        forget_layouts()
        check(be.matmul(x, x.swapaxes(-1, -2)), x, x.swapaxes(-1, -2))
        assert gemm._layout.cache_info().currsize == kept


def test_what_the_kernel_does_not_take(rng: Any) -> None:
    a, b = draw(rng, 20, 30), draw(rng, 30, 40)
    assert gemm.takes(a, b)
    assert not gemm.takes(a.astype(np.float64), b.astype(np.float64))
    assert not gemm.takes(a, b.astype(np.float64))
    assert not gemm.takes(a[:, ::-1], b)
    assert not gemm.takes(a, b[1:])
    assert not gemm.takes(a[0], b)
    assert not gemm.takes_linear(a, b.T, np.ones(39, np.float32))
    assert not gemm.takes_linear(a, b.T, np.ones(40))
    check(be.matmul(a[:, ::-1], b), a[:, ::-1], b)


def test_a_compiled_step_has_the_bits_of_an_eager_one(rng: Any) -> None:
    layers = gradient.nn.Linear(64, 48), gradient.nn.Linear(48, 64)
    x = gradient.tensor(draw(rng, 40, 64))

    def step(x: Any) -> Any:
        loss = (layers[1](layers[0](x).relu()) ** 2).mean()
        for layer in layers:
            layer.weight.grad = None
        loss.backward()
        return loss.detach()

    eager = step(x)
    grads = [layer.weight.grad.numpy().copy() for layer in layers]
    compiled = gradient.compile(step, fullgraph=True)
    for _ in range(4):
        assert compiled(x).item() == eager.item()
    for layer, grad in zip(layers, grads, strict=True):
        assert layer.weight.grad.numpy().tobytes() == grad.tobytes()


@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize(
    "sizes", [(24, 16, 64), (25, 256, 32), (12, 300, 64), (40, 50, 129)], ids=str
)
def test_a_bias_of_rows_is_added_to_each_column(
    sizes: tuple[int, int, int], second: str, rng: np.random.Generator
) -> None:
    m, k, n = sizes
    a, b, bias = draw(rng, m, k), LAYOUTS[second](draw(rng, 2, k, n)), draw(rng, m)
    out = np.full((2, m, n), np.nan, np.float32)
    threads.parallel_for(*gemm.launch(a, b, bias, out, upright=True))
    check(out, a, b, bias[:, None])


@pytest.mark.parametrize("columns", [32, 64, 128])
def test_rows_that_are_read_where_they_are_have_the_bits_of_packed_ones(
    columns: int, rng: np.random.Generator
) -> None:
    a, b = draw(rng, 30, 256), draw(rng, 256, columns)
    packed = be.matmul(in_parts(a), b)  # rows whose numbers lie apart are packed
    assert packed.tobytes() == be.matmul(a, b).tobytes()
    wide = np.concatenate([b, draw(rng, 256, 512)], 1)  # more panels, for which rows are packed
    assert (be.matmul(a, wide)[:, :columns] == packed).all()


@pytest.mark.parametrize("rows", [5, 48, 130])
@pytest.mark.parametrize("columns", [33, 64, 131])
def test_a_product_that_ends_in_relu_has_the_bits_of_both(
    rows: int, columns: int, rng: Any, monkeypatch: Any
) -> None:
    for name in ("FEW_PRODUCTS", "FEW_ROWS", "FEW_COLUMNS"):
        monkeypatch.setattr(gemm, name, 0)
    x, weight, bias = draw(rng, rows, 500), draw(rng, columns, 500), draw(rng, columns)
    x[0], bias[0] = np.nan, np.inf
    x[1], bias[1] = 0, -0.0
    assert gemm.takes_activation(x, weight, bias, "relu")
    got = be.linear_activation(x, weight, bias, "relu")
    expected = be.relu(gemm.GemmKernels.linear(be, x, weight, bias))
    assert got.tobytes() == expected.tobytes()
    assert not gemm.takes_activation(x, weight, bias, "gelu_tanh")
    split = np.broadcast_to(x[:1], (4096, 500))
    large = np.broadcast_to(weight[:1], (4096, 500))
    is_split = gemm._is_split(4096, 4096, 500)
    assert gemm.takes_activation(split, large, np.zeros(4096, np.float32), "relu") is not is_split


@pytest.mark.parametrize("shapes", [((4, 1, 64), (4, 64, 64)), ((300, 40), (40, 50))])
def test_complex_products_use_one_thread_of_the_library(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own threads would spin while kernels want the processors."""
    asked: list[int] = []
    monkeypatch.setattr(blas, "openblas", lambda: (lambda: 8, asked.append))
    random = np.random.default_rng(0)
    a, b = ((random.standard_normal(s) * (1 + 2j)).astype(np.complex64) for s in shapes)
    got = be.matmul(a, b)
    np.testing.assert_allclose(got, np.matmul(a, b), rtol=1e-4, atol=1e-4)
    assert asked == [1, 8]
