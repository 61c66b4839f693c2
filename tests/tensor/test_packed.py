"""Packed dtypes: layouts, errors of rounding, products, what refuses them, models and files."""

from __future__ import annotations

import copy
import itertools
import json
import pickle

import numpy as np
import pytest

import gradient
from gradient import backends, errors, nn
from gradient import functional as F
from gradient.amp import autocast
from gradient.autograd import gradcheck, gradgradcheck
from gradient.autograd.op import registry
from gradient.backends.composed import packed as composed
from gradient.checkpoints.loading import load_model, save_model
from gradient.dtypes import PACKED, BlockDType
from gradient.io.safetensors import SafetensorsFile, load_file, save_file
from gradient.io.sharded import open_sharded, save_sharded
from gradient.models.llama import LlamaForCausalLM
from gradient.models.llama_config import LlamaConfig
from gradient.ops import fused
from gradient.quantization import SCHEMES, packed_tensor, quantize, quantize_, scheme_of
from gradient.quantization.schemes import uses_more_bits
from gradient.testing import TABLE, assert_close
from support.array_backends import PROOFS
from support.packed_reference import REFERENCES

BLOCKS = [dtype for dtype in PACKED if isinstance(dtype, BlockDType)]


def by_name(dtype) -> str:
    return dtype.name


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def host(tensor) -> np.ndarray:
    return np.asarray(tensor.backend.to_numpy(tensor.array))


def packed(dtype, *shape: int, device: str = "cpu"):
    return quantize(gradient.tensor(normal(*shape)), dtype).to(device=device)


@pytest.fixture(params=["device", *PROOFS])
def place(request: pytest.FixtureRequest, device: str) -> str:
    return device if request.param == "device" else request.param


# Layouts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", BLOCKS, ids=by_name)
def test_blocks_read_as_their_description_says(dtype, place):
    """Against a reader of one weight at a time, on random codes and ordinary scales."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (2, 3, dtype.block_bytes), dtype=np.uint8)
    reference = REFERENCES[dtype.name]
    for at in reference.float16:
        scales = rng.uniform(-2, 2, (2, 3, 1)).astype("<f2")
        blocks[..., at : at + 2] = scales.view(np.uint8)
    expected = [
        [reference.read(bytes(block), i) for i in range(dtype.block_size)]
        for block in blocks.reshape(-1, dtype.block_bytes)
    ]
    tensor = packed_tensor(blocks, dtype, (2, 3 * dtype.block_size)).to(device=place)
    got = host(tensor.dequantize(gradient.float64))
    np.testing.assert_allclose(got.reshape(6, -1), expected, rtol=1e-6, atol=1e-6)


def test_a_block_by_hand():
    """Q4_0: the scale 0.5 is 0x3800; byte i holds weight i below and i + 16 above."""
    block = np.array([0x00, 0x38, 0x80, *[0x98] * 15], np.uint8)
    values = packed_tensor(block.reshape(1, 1, 18), "q4_0", (1, 32)).dequantize()
    assert values.tolist() == [[-4.0, *[0.0] * 15, 0.0, *[0.5] * 15]]


@pytest.mark.parametrize("dtype", PACKED, ids=by_name)
def test_layout(dtype):
    shape = (3, 5, 256)
    tensor = packed(dtype, *shape)
    parts = [(part.shape, part.dtype) for part in tensor.array.parts]
    assert parts == list(dtype.parts_of(shape))
    assert all(part.shape[:2] == (3, 5) for part in tensor.array.parts)
    assert tensor.nbytes == sum(part.nbytes for part in tensor.array.parts)
    assert len(dtype.part_names) == len(parts)


def test_bits_per_weight():
    bits = {dtype.name: round(dtype.bits_per_weight((1, 4096)), 4) for dtype in PACKED}
    assert bits == {name: reference.bits for name, reference in REFERENCES.items()}


def test_what_a_packed_dtype_is():
    q = gradient.q4_k
    assert (q.is_packed, q.is_floating_point, q.is_complex, q.is_signed) == (
        True,
        True,
        False,
        True,
    )
    assert not gradient.float16.is_packed
    assert gradient.dtypes.dtype_of("q4_k") is q
    assert repr(q) == "gradient.q4_k"
    assert pickle.loads(pickle.dumps(q)) is q
    for wrong in (lambda: q.itemsize, lambda: q.numpy, lambda: gradient.zeros(256, dtype=q)):
        with pytest.raises(TypeError, match=r"gradient.q4_k is a packed dtype .*quantize"):
            wrong()
    for mix in (
        gradient.promote_types,
        lambda a, b: gradient.result_type(packed(a, 256), gradient.ones(1)),
    ):
        with pytest.raises(TypeError, match="packed dtypes do not mix"):
            mix(q, gradient.float32)


# Rounding ----------------------------------------------------------------------------------------


def error_of(dtype, x: np.ndarray) -> float:
    got = host(quantize(gradient.tensor(x), dtype).dequantize())
    return float(np.sqrt(((got - x) ** 2).mean() / (x**2).mean()))


@pytest.mark.parametrize("dtype", PACKED, ids=by_name)
@pytest.mark.parametrize("size", [1e-2, 1.0, 300.0])
def test_error_of_rounding(dtype, size):
    assert error_of(dtype, size * normal(64, 512)) <= REFERENCES[dtype.name].error


@pytest.mark.parametrize("dtype", PACKED, ids=by_name)
def test_what_can_be_stored_is_stored(dtype):
    """Packing again what was unpacked changes little: less than a tenth of the first error."""
    once = packed(dtype, 16, 512).dequantize()
    again = quantize(once, dtype).dequantize()
    first = np.abs(host(once) - normal(16, 512)).mean()
    assert np.abs(host(again) - host(once)).mean() <= 0.1 * first


@pytest.mark.parametrize("dtype", PACKED, ids=by_name)
def test_special_rows(dtype):
    """Zeros stay zeros; constants, one sign and one outlier stay near what they were."""
    rows = np.zeros((5, 256), np.float32)
    rows[1] = 0.37
    rows[2] = -0.37
    rows[3] = np.linspace(0.5, 1, 256)
    rows[4] = 0.01 * normal(256)
    rows[4, 100] = 8
    got = host(quantize(gradient.tensor(rows), dtype).dequantize())
    assert (got[0] == 0).all()
    # Under the specification's scale, MXFP4's largest number is 3/4 of the next power of two.
    assert np.abs(got[1:4] - rows[1:4]).max() < REFERENCES[dtype.name].spread
    assert abs(got[4, 100] - 8) < 0.4


def test_the_search_beats_rounding():
    """The k-quants' scales, found by search, against those of each sub-block's range."""
    x = normal(64, 512).reshape(-1, 8, 32)
    low = np.minimum(x.min(-1, keepdims=True), 0)
    scale = (x.max(-1, keepdims=True) - low) / 15
    a, d = scale, scale.max(1, keepdims=True) / 63
    b, dmin = -low, -low.min(1, keepdims=True) / 63
    step, base = d * np.rint(a / d), dmin * np.rint(b / dmin)
    rounded = step * np.rint((x + base) / step).clip(0, 15) - base
    rounded_error = np.sqrt(((rounded - x) ** 2).mean() / (x**2).mean())
    assert error_of(gradient.q4_k, x.reshape(64, 512)) < 0.93 * rounded_error


@pytest.mark.parametrize("threads", [1, 3])
def test_packing_does_not_depend_on_threads_or_pieces(threads):
    x = gradient.tensor(normal(300, 256))
    expected = gradient.q4_k.pack(normal(300, 256))[0]
    before = gradient.get_num_threads()
    gradient.set_num_threads(threads)
    try:
        np.testing.assert_array_equal(quantize(x, "q4_k").array.parts[0], expected)
    finally:
        gradient.set_num_threads(before)


def test_quantize_takes_what_holds_floats():
    x = normal(8, 64)
    expected = quantize(gradient.tensor(x), "q8_0")
    for other in (
        gradient.tensor(x.T.copy()).T,
        gradient.tensor(x).double(),
        nn.Parameter(gradient.tensor(x)),
    ):
        assert gradient.equal(quantize(other, gradient.q8_0), expected)
    narrow = quantize(gradient.tensor(x).bfloat16(), "q8_0")
    assert gradient.equal(narrow, quantize(gradient.tensor(x).bfloat16().float(), "q8_0"))
    assert gradient.equal(quantize(expected, "q4_0"), quantize(expected.dequantize(), "q4_0"))
    assert quantize(expected, "q8_0").array is expected.array
    assert quantize(gradient.tensor(x), "q8_0").node is None


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda x: quantize(x, "q4_k"), RuntimeError, "q4_k: .*multiple of 256, got shape"),
        (lambda x: quantize(x, "float16"), RuntimeError, "expected a packed dtype .*float16"),
        (lambda x: quantize(x, "q9"), TypeError, "expected one of .*q8_0.*got 'q9'"),
        (lambda x: quantize(x.long(), "q8_0"), RuntimeError, "floating-point tensor, got .*int64"),
        (lambda x: quantize([1.0], "q8_0"), TypeError, "expected a Tensor, got list"),
        (lambda x: quantize(x / 0, "q8_0"), ValueError, "finite weights.*rows 0 to 3"),
        (lambda x: quantize(x * 1e9, "q8_0"), ValueError, "16 bits, up to 65504"),
        (lambda x: quantize(x * 1e9, "int4_group"), ValueError, "16 bits, up to 65504"),
        (lambda x: quantize(x * 1e9, "nf4"), ValueError, "16 bits, up to 65504"),
        (lambda x: quantize(gradient.tensor(1.0), "q8_0"), RuntimeError, "multiple of 32"),
        (lambda x: packed_tensor(x, "q8_0", (4, 64)), RuntimeError, r"\(4, 2, 34\).*got"),
        (lambda x: packed_tensor([1], "q8_0", (4, 64)), TypeError, "got int"),
        (
            lambda x: x.dequantize("int32"),
            RuntimeError,
            "expected an unpacked floating-point dtype",
        ),
    ],
)
def test_mistakes(call, kind, said):
    with pytest.raises(kind, match=said) as caught:
        call(gradient.ones(4, 64))
    assert isinstance(caught.value, errors.GradientError)


# Tensors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", PACKED, ids=by_name)
def test_a_packed_tensor_is_a_tensor(dtype, place):
    q = packed(dtype, 6, 256, device=place)
    unpacked = host(packed(dtype, 6, 256).dequantize())
    assert (q.shape, q.ndim, q.numel(), len(q)) == ((6, 256), 2, 1536, 6)
    assert q.dtype is dtype
    assert q.backend is backends.get(place)
    assert not q.requires_grad
    np.testing.assert_array_equal(host(q.dequantize()), unpacked)
    assert q.dequantize(gradient.bfloat16).dtype is gradient.bfloat16
    for other in (q.clone(), copy.deepcopy(q), q.detach(), pickle.loads(pickle.dumps(q))):
        assert gradient.equal(other, q)
        assert other.backend is q.backend
    assert q.detach().array is q.array
    assert q.clone().array.parts[0] is not q.array.parts[0]
    assert gradient.equal(q.to("bare").cpu(), packed(dtype, 6, 256))
    assert q.to(dtype) is q
    np.testing.assert_array_equal(host(q[2:4].dequantize()), unpacked[2:4])
    np.testing.assert_array_equal(host(q[-1].dequantize()), unpacked[-1])
    np.testing.assert_array_equal(host(q[[5, 0]].dequantize()), unpacked[[5, 0]])


def test_experts_are_picked_without_unpacking():
    q = packed("q4_k", 3, 4, 256)
    assert q[1].shape == (4, 256)
    assert np.shares_memory(q[1].array.parts[0], q.array.parts[0])
    assert gradient.equal(q[1, 2:], q[1][2:])
    assert gradient.equal(q[:, 1:2][2], q[2, 1:2])
    assert gradient.equal(q.select(0, 2), q[2])
    for wrong in (lambda: q[0, 0, 0], lambda: q[7]):
        with pytest.raises(IndexError):
            wrong()


def test_repr():
    assert repr(packed("q4_k", 4, 256)) == (
        "tensor(..., size=(4, 256), dtype=gradient.q4_k, bits_per_weight=4.5)"
    )
    layer = quantize_(nn.Linear(64, 8, bias=False), "int8")
    assert repr(layer.weight).endswith("dtype=gradient.int8_channel, bits_per_weight=8.5)")
    assert "packed tensors, got q4_k (4, 256)" in refusal(lambda q: q + 1)


def refusal(call) -> str:
    with pytest.raises(errors.DTypeError) as caught:
        call(packed("q4_k", 4, 256))
    return str(caught.value)


ROWS = {row.op: row for row in reversed(TABLE)}  # the first of each op
WEIGHTS = {"linear": [1], "embedding": [0], "grouped_linear": [1, 2, 3]}


MOVE_PARTS = {name for name, made in registry.items() if made.moves == "parts"}
ANOTHER_FIRST = {"cholesky", "eig", "eigh", "eigvalsh", "lu", "lu_pivots", "solve_triangular"}
"""Whose rows call another op first, for a symmetric matrix or one of a diagonal of its own."""


@pytest.mark.parametrize(
    "op", sorted(set(ROWS) - {"rope", "cached_attention"} - ANOTHER_FIRST - MOVE_PARTS)
)
def test_ops_refuse_packed_tensors_by_name(op):
    """Each input of each op, but for the weights of the three and what copies a tensor whole."""
    arrays = [gradient.tensor(a) for a in ROWS[op].samples()]
    for at in set(range(len(arrays))) - set(WEIGHTS.get(op, ())):
        inputs = [*arrays[:at], packed("q8_0", 4, 32), *arrays[at + 1 :]]
        with pytest.raises(errors.DTypeError) as caught:
            ROWS[op].run(*inputs)
        assert str(caught.value).startswith(
            f"{registry[op].public_name}: not defined for packed tensors"
        )
        assert "dequantize()" in str(caught.value)


def test_ops_whose_rows_make_arrays_of_their_dtype_refuse_packed_tensors_by_name():
    q, ones = packed("q8_0", 4, 32), gradient.ones(16).array
    with pytest.raises(errors.DTypeError, match="rope: not defined for packed tensors"):
        fused.rope(q, cos=ones, sin=ones)
    with pytest.raises(errors.DTypeError, match="attention: not defined for packed tensors"):
        fused.cached_attention(q, keys=(ones,), values=(ones,), slots=None, options=None)


#: Methods about the tensor, not about its elements.
WORK = {
    "backward", "clone", "conj", "conj_physical", "contiguous", "cpu", "cuda", "dequantize",
    "detach", "detach_", "dim", "element_size", "equal", "get_device", "is_complex", "is_conj",
    "is_contiguous", "is_pinned", "is_same_size", "pin_memory", "record_stream", "is_signed",
    "is_floating_point", "is_inference", "is_neg", "is_shared", "isreal", "ndimension",
    "nelement", "numel", "positive", "register_hook", "share_memory_",
    "register_post_accumulate_grad_hook", "requires_grad_",
    "retain_grad", "resolve_conj", "resolve_neg", "select", "size", "to", "type",
    "conj_physical_", "dense_dim", "is_distributed", "sparse_dim", "to_dense",
}  # fmt: skip


def test_methods_refuse_packed_tensors_or_work():
    """No method gives a wrong result in silence: it raises an error of ours."""
    names = [n for n in dir(gradient.Tensor) if not n.startswith("_") and n not in WORK]
    given = (), (1,), (0, 1), (gradient.ones(4, 32),)
    quiet = []
    for name, arguments in itertools.product(names, given):
        q = packed("q8_0", 4, 32)
        if not callable(getattr(type(q), name)):
            continue
        try:
            getattr(q, name)(*arguments)
        except (errors.GradientError, TypeError):
            continue
        quiet.append((name, arguments))
    # Itself, a matrix; and copies of it, with nothing to do.
    assert quiet == [("diff", (0, 1)), ("flatten", (1,)), ("roll", (0, 1))]


def test_a_packed_tensor_is_not_trained():
    q = packed("q8_0", 4, 32)
    for wrong in (lambda: q.requires_grad_(), lambda: setattr(q, "requires_grad", True)):
        with pytest.raises(errors.AutogradError, match="packed tensor .q8_0. cannot be trained"):
            wrong()
    with pytest.raises(errors.DTypeError, match="packed tensor .q8_0. cannot be trained"):
        nn.Parameter(q)
    assert not nn.Parameter(q, requires_grad=False).requires_grad


# Products ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", PACKED, ids=by_name)
def test_linear_and_embedding_are_those_of_the_numbers(dtype, place):
    q = packed(dtype, 24, 256, device=place)
    unpacked = q.dequantize()
    x = gradient.tensor(normal(2, 3, 256, seed=1), device=place)
    bias = gradient.tensor(normal(24, seed=2), device=place)
    order = {"rtol": 1.3e-6, "atol": 3e-5}  # of 256 products, which are not added in one order
    assert_close(F.linear(x, q, bias), F.linear(x, unpacked, bias), **order)
    assert_close(F.linear(x[0, 0], q), F.linear(x[0, 0], unpacked), **order)
    rows = gradient.tensor([[3, 0, 3], [23, 1, 1]], device=place)
    np.testing.assert_array_equal(host(F.embedding(rows, q)), host(F.embedding(rows, unpacked)))
    counts = gradient.tensor([1, 0, 2], device=place)
    assert_close(
        F.grouped_linear(x[0], [q, q, q], counts),
        F.grouped_linear(x[0], [unpacked] * 3, counts),
        **order,
    )


@pytest.mark.parametrize("narrow", [gradient.bfloat16, gradient.float16], ids=by_name)
def test_a_16_bit_sum_with_a_bias_is_rounded_once(narrow, place):
    q = packed(gradient.q8_0, 24, 256, device=place)
    x = gradient.tensor(normal(7, 256, seed=1), device=place).to(narrow)
    bias = gradient.tensor(100 * normal(24, seed=2), device=place).to(narrow)
    got = F.linear(x, q, bias)
    if x.is_cuda:  # which rounds the unpacked weight to 16 bits, too, and adds up in another order
        expected = F.linear(x.float(), q.dequantize().to(narrow).float(), bias.float())
        assert_close(got.float(), expected, rtol=gradient.finfo(narrow).eps / 2 + 1e-5, atol=1e-3)
    else:
        assert got.tolist() == F.linear(x.float(), q, bias.float()).to(narrow).tolist()
    x.requires_grad = bias.requires_grad = True
    F.linear(x, q, bias).sum().backward()
    assert x.grad.dtype == bias.grad.dtype == narrow


def test_one_piece_gives_the_bits_of_the_numbers():
    q = packed("q6_k", 24, 256, device="bare")
    x = gradient.tensor(normal(5, 256, seed=1), device="bare")
    np.testing.assert_array_equal(host(F.linear(x, q)), host(F.linear(x, q.dequantize())))


@pytest.mark.parametrize("rows", [1, 31, 64, 100])
def test_pieces_make_the_whole(rows, monkeypatch):
    """A weight unpacked in many pieces, of which the last is shorter."""
    q = packed("q4_0", rows, 64)
    x = gradient.tensor(normal(3, 64, seed=1), requires_grad=True)
    unpacked = q.dequantize()
    monkeypatch.setattr(composed, "CHUNK", 64)
    monkeypatch.setattr(composed, "MIN_ROWS", 7)
    y = F.linear(x, q)
    assert_close(y, F.linear(x, unpacked))
    g = gradient.tensor(normal(3, rows, seed=2))
    y.backward(g)
    assert_close(x.grad, g @ unpacked)


def test_little_is_unpacked_at_a_time(monkeypatch):
    """A look-up unpacks its rows, a product and its gradient pieces of bounded size."""
    sizes = []
    be = backends.get("cpu")
    unpack = be.unpack

    def counted(packed, *dtype):
        sizes.append(packed.size)
        return unpack(packed, *dtype)

    monkeypatch.setattr(be, "unpack", counted)
    q = packed("q8_0", 4000, 256)
    F.embedding(gradient.tensor([[5, 5, 3999]]), q)
    assert sizes == [3 * 256]
    sizes.clear()
    F.linear(gradient.ones(40, 256, requires_grad=True), q).sum().backward()
    assert sum(sizes) == 2 * q.numel()
    assert max(sizes) <= composed.CHUNK


@pytest.mark.cpu_only
@pytest.mark.parametrize("dtype", [d for d in BLOCKS if REFERENCES[d.name].kernels], ids=by_name)
def test_rows_do_not_depend_on_their_number(dtype):
    """Few rows are multiplied by weights unpacked in registers, in the same order for each."""
    pytest.importorskip("numba")
    q, x = packed(dtype.name, 1031, 256), gradient.tensor(normal(13, 256, seed=1))
    together = F.linear(x, q)
    assert_close(together.double(), x.double() @ q.dequantize().double().T, atol=1e-4)
    for start, count in [(0, 1), (3, 2), (2, 3), (5, 4), (1, 7), (0, 13)]:
        assert gradient.equal(
            F.linear(x[start : start + count], q), together[start : start + count]
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_the_result_has_the_dtype_of_the_input(dtype):
    """16-bit inputs are multiplied in float32 and rounded once."""
    q = packed("q8_0", 24, 64)
    x = gradient.tensor(normal(5, 64, seed=1)).to(getattr(gradient, dtype))
    y = F.linear(x, q)
    wide = gradient.float64 if dtype == "float64" else gradient.float32
    assert y.dtype is x.dtype
    assert_close(y, F.linear(x.to(wide), q.dequantize(wide)).to(x.dtype))


def test_autocast():
    q = packed("q8_0", 24, 64)
    x = gradient.tensor(normal(5, 64, seed=1), requires_grad=True)
    with autocast("cpu", dtype=gradient.bfloat16):
        y = F.linear(x, q)
    assert y.dtype is gradient.bfloat16
    y.float().sum().backward()
    assert x.grad.dtype is gradient.float32
    assert_close(x.grad[0], q.dequantize().sum(0), rtol=0.02, atol=0.05)


def test_gradients_go_through_packed_weights(place):
    q, table = packed("q4_k", 6, 256, device=place), packed("q8_0", 5, 256, device=place)
    x = gradient.tensor(normal(2, 256, seed=1).astype(np.float64), device=place, requires_grad=True)
    bias = gradient.tensor(normal(6).astype(np.float64), device=place, requires_grad=True)

    def f(x, bias):
        return F.linear(x, q, bias).tanh()

    assert gradcheck(f, (x, bias))
    assert gradgradcheck(f, (x, bias))
    assert F.embedding(gradient.tensor([0], device=place), table).node is None


def test_a_weight_overwritten_before_backward_is_noticed(place):
    q, x = packed("q8_0", 4, 64, device=place), gradient.ones(2, 64, device=place)
    y = F.linear(x.requires_grad_(), q)
    gradient.zeros(3, device=place).add_(1)  # other memory
    y.sum().backward(retain_graph=True)
    q.copy_(quantize(gradient.zeros(4, 64), "q8_0"))
    with pytest.raises(errors.AutogradError, match="linear .*saved its 'weight'.*copy_"):
        y.sum().backward()


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (
            lambda x, q: F.linear(x[:, :3], q),
            RuntimeError,
            r"linear: .*\(2, 3\) and q8_0 \(4, 64\)",
        ),
        (lambda x, q: F.linear(x.long(), q), RuntimeError, "floating-point input.*int64"),
        (lambda x, q: F.linear(x, q[0]), RuntimeError, r"a packed weight \(N, K\), got .*\(64,\)"),
        (lambda x, q: F.linear(q, q), RuntimeError, "linear: not defined for packed"),
        (lambda x, q: F.embedding(gradient.tensor([4]), q), IndexError, "embedding: .*4"),
        (lambda x, q: F.embedding(gradient.tensor([-1]), q), IndexError, "-1"),
        (lambda x, q: F.embedding(gradient.tensor([0]), q, max_norm=1.0), RuntimeError, "packed"),
        (lambda x, q: F.linear(x, q.to("handle")), RuntimeError, "one device"),
    ],
)
def test_mistakes_in_products(call, kind, said):
    with pytest.raises(kind, match=said) as caught:
        call(gradient.ones(2, 64), packed("q8_0", 4, 64))
    assert isinstance(caught.value, errors.GradientError)


# Modules -----------------------------------------------------------------------------------------


def small() -> nn.Sequential:
    gradient.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(11, 64), nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 3)
    )


def test_quantize_a_model_in_place():
    model = small()
    x = gradient.tensor([[1, 2, 3]])
    before = model(x)
    assert quantize_(model, "q8_0") is model
    dtypes = {name: p.dtype.name for name, p in model.named_parameters()}
    assert dtypes == {
        "0.weight": "q8_0", "1.weight": "q8_0", "1.bias": "float32", "2.weight": "float32",
        "2.bias": "float32", "3.weight": "q8_0", "3.bias": "float32",
    }  # fmt: skip
    assert_close(model(x), before, rtol=0, atol=0.02)
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.numel() for p in small().parameters()
    )
    own = model[1].weight
    quantize_(model, "q4_0")
    assert model[1].weight is own  # what is packed stays


def test_what_changes_a_model_leaves_packed_weights():
    model = quantize_(small(), "q8_0")
    blocks = model[1].weight.array.parts[0].copy()
    x = gradient.tensor([[1, 2]])
    for change, dtype in (
        (model.half, gradient.float16),
        (model.bfloat16, gradient.bfloat16),
        (model.double, gradient.float64),
        (model.float, gradient.float32),
    ):
        change()
        assert model[1].weight.dtype is gradient.q8_0
        assert model[1].bias.dtype is dtype
        assert model(x).dtype is dtype  # the embedding gives what the other weights have
    np.testing.assert_array_equal(model[1].weight.array.parts[0], blocks)
    model.requires_grad_(True)
    assert [p.requires_grad for p in model.parameters()] == [False, False, *[True] * 3, False, True]
    with pytest.raises(TypeError, match="quantize_"):
        model.to(gradient.q4_0)
    assert model.to("bare")[1].weight.device == gradient.device("bare")


def test_only_the_plain_weights_are_trained():
    model = quantize_(small(), "int8")
    optimizer = gradient.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):
        optimizer.zero_grad()
        model(gradient.tensor([[1, 2]])).square().sum().backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        assert gradient.equal(value, before[name]) == value.dtype.is_packed


@pytest.mark.parametrize("assign", [True, False])
def test_state_dict(assign):
    source, target = quantize_(small(), "q4_0"), quantize_(small(), "q4_0")
    with gradient.no_grad():
        for p in target.parameters():
            p.copy_(quantize(gradient.ones(p.shape), "q4_0") if p.dtype.is_packed else p * 0)
    own = target[1].weight
    target.load_state_dict(source.state_dict(), assign=assign)
    assert (target[1].weight is own) is not assign
    for name, value in target.state_dict().items():
        assert gradient.equal(value, source.state_dict()[name])
    x = gradient.tensor([[1, 2]])
    assert_close(target(x), source(x))


def test_state_dicts_that_do_not_fit():
    packed_state, unpacked = quantize_(small(), "q8_0").state_dict(), small()
    with pytest.raises(errors.StateDictError) as caught:
        unpacked.load_state_dict(packed_state)
    assert "q8_0 cannot be copied into float32; assign=True" in str(caught.value)
    with pytest.raises(errors.StateDictError, match="float32 cannot be copied into q4_0"):
        quantize_(small(), "q4_0").load_state_dict(unpacked.state_dict())
    unpacked.load_state_dict(packed_state, assign=True)
    assert unpacked[1].weight.dtype is gradient.q8_0
    assert not unpacked[1].weight.requires_grad
    assert unpacked[1].bias.requires_grad


# Schemes -----------------------------------------------------------------------------------------

LAYER = "model.layers.5."


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("model.embed_tokens.weight", (512, 256), "q4_k"),
        ("lm_head.weight", (512, 256), "q6_k"),
        (LAYER + "self_attn.q_proj.weight", (256, 256), "q4_k"),
        (LAYER + "self_attn.v_proj.weight", (256, 256), "q6_k"),  # (5 - 32 // 8) % 3 is not 2
        (LAYER + "mlp.down_proj.weight", (256, 512), "q6_k"),
        (LAYER + "mlp.up_proj.weight", (512, 256), "q4_k"),
        (LAYER + "self_attn.qkv_proj.weight", (768, 256), "q5_k"),
        (LAYER + "block_sparse_moe.experts.3.w2.weight", (256, 512), "q6_k"),
        (LAYER + "block_sparse_moe.gate.weight", (8, 256), None),
        (LAYER + "mlp.gate.weight", (8, 256), None),
        (LAYER + "mlp.experts.gate_up_proj", (8, 512, 256), "q4_k"),
        (LAYER + "input_layernorm.weight", (256,), None),
        (LAYER + "self_attn.q_proj.bias", (256,), None),
        ("transformer.wpe.weight", (64, 256), None),
        ("blk.5.ffn_down.weight", (256, 512), "q6_k"),
        ("blk.5.attn_output.weight", (256, 256), "q4_k"),
        ("blk.5.ffn_gate_inp.weight", (8, 256), None),
        ("output.weight", (512, 256), "q6_k"),
        ("token_embd.weight", (512, 256), "q4_k"),
        ("0.weight", (16, 256), "q4_k"),
        ("conv.weight", (16, 8, 256), None),
        # Rows that are not of whole blocks
        (LAYER + "self_attn.q_proj.weight", (256, 96), "q5_0"),
        (LAYER + "mlp.down_proj.weight", (256, 96), "q8_0"),
        (LAYER + "self_attn.q_proj.weight", (256, 172), None),
    ],
)
def test_q4_k_m(name, shape, expected):
    # Layer 5 of 40 lies between the eighths: (5 - 5) % 3 is 0; of 32 it is 1; of 24 it is 2.
    dtype = scheme_of("Q4_K_M")(name, shape, n_layers=24)
    assert (dtype and dtype.name) == expected


def test_layers_with_more_bits():
    """llama.cpp's use_more_bits for 32 layers: 4 at each end, every third of the 24 between."""
    assert [i for i in range(32) if uses_more_bits(i, 32)] == [
        0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31,
    ]  # fmt: skip
    assert [i for i in range(5) if uses_more_bits(i, 5)] == [2, 4]


def test_models_of_eight_experts():
    scheme = scheme_of("q4_k_m")
    shape = (256, 256)
    found = [
        scheme(LAYER + f"self_attn.{name}_proj.weight", shape, 32, n_experts=8).name
        for name in "qkvo"
    ]
    assert found == ["q4_k", "q8_0", "q8_0", "q5_k"]


@pytest.mark.parametrize(
    ("name", "most", "head"),
    [
        ("q8_0", "q8_0", "q8_0"), ("q4_0", "q4_0", "q6_k"), ("q6_k", "q6_k", "q6_k"),
        ("q2_k", "q2_k", "q6_k"), ("int8", "int8_channel", "int8_channel"),
        ("int4", "int4_group", "int8_channel"), ("nf4", "nf4", "int8_channel"),
        ("q5_k_m", "q5_k", "q6_k"), (gradient.q5_1, "q5_1", "q6_k"),
    ],
)  # fmt: skip
def test_schemes(name, most, head):
    scheme = scheme_of(name)
    shape = (512, 256)
    assert scheme("model.layers.1.self_attn.q_proj.weight", shape, 4).name == most
    assert scheme("lm_head.weight", shape, 4).name == head
    assert scheme("model.embed_tokens.weight", shape, 4).name == most
    assert scheme("model.embed_tokens.weight", shape, 4, tied=True).name == head


def test_every_scheme_takes_rows_of_32_and_leaves_odd_ones():
    for scheme in SCHEMES.values():
        assert scheme("fc.weight", (8, 32)).fits((8, 32))
        odd = scheme("fc.weight", (8, 33))
        assert odd is None or odd is gradient.int8_channel
    with pytest.raises(ValueError, match=r"expected one of q4_k_m.*got 'q4_k_x'"):
        scheme_of("q4_k_x")


def test_tied_weights_stay_tied_and_get_the_output_s_dtype():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed_tokens = nn.Embedding(9, 256)
            self.proj = nn.Linear(256, 256)
            self.lm_head = nn.Linear(256, 9, bias=False)
            self.lm_head.weight = self.embed_tokens.weight

    said = []
    model = quantize_(Model(), "q4_0", lambda name, dtype: said.append((name, dtype.name)))
    assert model.lm_head.weight is model.embed_tokens.weight
    assert said == [
        ("embed_tokens.weight", "q6_k"),
        ("lm_head.weight", "q6_k"),
        ("proj.weight", "q4_0"),
    ]


# Files -------------------------------------------------------------------------------------------


def state() -> dict[str, gradient.Tensor]:
    return {f"w.{d.name}": packed(d, 4, 256) for d in PACKED} | {"bias": gradient.ones(3)}


def test_safetensors(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(state(), path, {"format": "pt"})
    file = SafetensorsFile(path)
    assert set(file) == set(state())
    assert len(file) == len(state())
    assert file.metadata == {"format": "pt"}
    for name, value in state().items():
        assert gradient.equal(file[name], value)
        file.release(name)
        assert gradient.equal(file[name], value)
    assert not file["w.q8_0"].array.parts[0].flags.owndata  # a view of the file
    assert "w.q8_0.blocks" not in file
    with pytest.raises(KeyError):
        file["w.q8_0.blocks"]
    # Saved again from what was read, on another device, with some of it unpacked.
    again = {k: v.to("bare") for k, v in load_file(path).items()}
    again["w.q8_0"] = again["w.q8_0"].dequantize()
    save_file(again, path, file.metadata)
    assert load_file(path)["w.q8_0"].dtype is gradient.float32
    assert load_file(path)["w.q4_0"].dtype is gradient.q4_0


def test_other_readers_see_bytes(tmp_path):
    from safetensors.numpy import load_file as load_elsewhere

    path = tmp_path / "a.safetensors"
    save_file({"w": packed("q8_0", 4, 64), "i": packed("int8_channel", 4, 64)}, path)
    found = {name: (a.shape, str(a.dtype)) for name, a in load_elsewhere(path).items()}
    assert found == {
        "w.blocks": ((4, 2, 34), "uint8"),
        "i.codes": ((4, 64), "int8"),
        "i.scales": ((4,), "float32"),
    }


@pytest.mark.parametrize("scheme", ["q4_k_m", "int4", "nf4"])
def test_a_packed_model_is_saved_and_loaded(scheme, tmp_path):
    """Tied, in shards, computing in float32 and in 16 bits."""
    gradient.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=256, intermediate_size=512, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = quantize_(LlamaForCausalLM(config).eval(), scheme)
    save_model(model, tmp_path, max_shard_bytes=200_000)
    ids = gradient.tensor([[1, 2, 3, 60]])
    with gradient.no_grad():
        loaded = load_model(tmp_path)
        assert_close(loaded(ids), model(ids), rtol=0, atol=0)
        assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
        assert {p.dtype.name for p in loaded.parameters()} > {"float32"}
        narrow = load_model(tmp_path, dtype=gradient.bfloat16)(ids)
    assert narrow.dtype is gradient.bfloat16
    assert_close(narrow.float(), model(ids).detach(), rtol=0, atol=0.03 * float(narrow.abs().max()))


def test_shards(tmp_path):
    paths = save_sharded(state(), tmp_path, max_shard_bytes=2000)
    assert len(paths) > 3
    index = json.loads(paths[-1].read_text())
    assert "w.nf4.absmax" in index["weight_map"]
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in state().values())
    files = open_sharded(tmp_path)
    assert set(files) == set(state())
    for name, value in state().items():
        assert gradient.equal(files[name], value)
        files.release(name)


def test_save_and_load(tmp_path):
    q = packed("q4_k", 4, 256)
    gradient.save({"model": {"w": q, "tied": q}, "dtype": gradient.q4_k}, tmp_path / "a")
    back = gradient.load(tmp_path / "a")
    assert gradient.equal(back["model"]["w"], q)
    assert back["model"]["tied"] is back["model"]["w"]
    assert back["dtype"] is gradient.q4_k
    assert gradient.load(tmp_path / "a", map_location="bare")["model"]["w"].device.type == "bare"


GOOD = {"w": {"dtype": "q8_0", "shape": [4, 64]}}


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ("{", "not proper JSON"),
        ("[" * 100_000, "not proper JSON"),
        ("[]", "a JSON list, not an object"),
        ('{"w": 1}', "exactly dtype and shape of 'w'"),
        ({"w": {"dtype": "q8_0"}}, "exactly dtype and shape of 'w'"),
        ({"w": {"dtype": "q8_1", "shape": [4, 64]}}, "unknown dtype 'q8_1'"),
        ({"w": {"dtype": "float32", "shape": [4, 64]}}, "unknown dtype 'float32'"),
        ({"w": {"dtype": 7, "shape": [4, 64]}}, "unknown dtype '7'"),
        ({"w": {"dtype": "q8_0", "shape": [4, 63]}}, r"has shape \[4, 63\]"),
        ({"w": {"dtype": "q8_0", "shape": []}}, r"has shape \[\]"),
        ({"w": {"dtype": "q8_0", "shape": [-4, 64]}}, "has shape"),
        ({"w": {"dtype": "q8_0", "shape": [True, 64]}}, "has shape"),
        ({"w": {"dtype": "q8_0", "shape": "4"}}, "has shape"),
        ({"w": {"dtype": "q8_0", "shape": [4, 1 << 70]}}, "part 'w.blocks' is uint8"),
        ({"w": {"dtype": "q4_0", "shape": [4, 64]}}, r"needs uint8 \(4, 2, 18\)"),
        ({"v": {"dtype": "q8_0", "shape": [4, 64]}}, "part 'v.blocks' is missing"),
        ({"x": {"dtype": "q8_0", "shape": [4, 64]}}, "'x' is both a tensor and a packed one"),
    ],
)
def test_malformed_notes(notes, said, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"w": packed("q8_0", 4, 64), "x": gradient.ones(2)}, path)
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    assert json.loads(header["__metadata__"]["gradient.packed"]) == GOOD
    header["__metadata__"]["gradient.packed"] = (
        notes if isinstance(notes, str) else json.dumps(notes)
    )
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
    with pytest.raises(errors.FileFormatError, match=said):
        SafetensorsFile(path)


def test_truncated_files(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(state(), path)
    raw = path.read_bytes()
    for size in (0, 7, 100, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:size])
        with pytest.raises(errors.FileFormatError):
            SafetensorsFile(path)


def test_mutated_files(tmp_path):
    """Whatever is written over a header: the tensors load, or an error of ours says why not."""
    path = tmp_path / "a.safetensors"
    save_file({"w": packed("q4_k", 4, 256), "i": packed("int4_group", 4, 64)}, path)
    raw, rng = path.read_bytes(), np.random.default_rng(0)
    size = 8 + int.from_bytes(raw[:8], "little")
    loaded = 0
    for _ in range(400):
        mutated = bytearray(raw)
        for at in rng.integers(8, size, rng.integers(1, 4)):
            mutated[at] = rng.choice(np.frombuffer(b'0123456789abknq_",:{}[]- \\', np.uint8))
        path.write_bytes(mutated)
        try:
            tensors = load_file(path)
        except errors.GradientError:
            continue
        loaded += 1
        for tensor in tensors.values():
            assert tensor.dequantize().shape == tensor.shape
    assert 0 < loaded < 400


def test_names_that_clash(tmp_path):
    with pytest.raises(errors.ArgumentError, match="'w.blocks' names a tensor and a part"):
        save_file(
            {"w": packed("q8_0", 4, 64), "w.blocks": gradient.ones(1)}, tmp_path / "a.safetensors"
        )
