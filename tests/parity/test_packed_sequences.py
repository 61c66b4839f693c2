"""Packed sequences and recurrent layers over them beside PyTorch's: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.nn.utils import rnn

pytestmark = pytest.mark.parity
LENGTHS = [[5, 3, 3, 1], [3, 5, 1, 3], [4], [2, 2, 2], [1, 7]]


def padded(lengths, width=3, seed=0):
    return np.random.default_rng(seed).standard_normal((max(lengths), len(lengths), width))


def falling(lengths):
    return lengths == sorted(lengths, reverse=True)


def as_numpy(x):
    return None if x is None else x.detach().numpy()


def same(ours, theirs):
    """Two packed sequences, field for field."""
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(as_numpy(a), as_numpy(b))


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_packing_and_padding(lengths, batch_first):
    torch = pytest.importorskip("torch")
    x = padded(lengths)
    x = x.transpose(1, 0, 2).copy() if batch_first else x
    options = {"batch_first": batch_first, "enforce_sorted": falling(lengths)}
    ours = rnn.pack_padded_sequence(gradient.tensor(x), lengths, **options)
    theirs = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(x), lengths, **options)
    same(ours, theirs)
    for total in (None, 9):
        back = {"batch_first": batch_first, "padding_value": -7.0, "total_length": total}
        got = rnn.pad_packed_sequence(ours, **back)
        expected = torch.nn.utils.rnn.pad_packed_sequence(theirs, **back)
        for a, b in zip(got, expected, strict=True):
            assert str(a.dtype) == str(b.dtype).replace("torch", "gradient")
            np.testing.assert_array_equal(as_numpy(a), as_numpy(b))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_sequences_of_any_length(lengths):
    torch = pytest.importorskip("torch")
    arrays = [padded([n], seed=n)[:, 0] for n in lengths]
    ours = rnn.pack_sequence([gradient.tensor(a) for a in arrays], enforce_sorted=False)
    theirs = torch.nn.utils.rnn.pack_sequence(
        [torch.tensor(a) for a in arrays], enforce_sorted=False
    )
    same(ours, theirs)
    for got, array in zip(rnn.unpack_sequence(ours), arrays, strict=True):
        np.testing.assert_array_equal(got.numpy(), array)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("RNN", {"nonlinearity": "relu"}),
        ("RNN", {"bidirectional": True, "num_layers": 2}),
        ("LSTM", {}),
        ("LSTM", {"bidirectional": True, "num_layers": 2, "bias": False}),
        ("LSTM", {"bidirectional": True, "proj_size": 2}),
        ("GRU", {"num_layers": 2}),
        ("GRU", {"bidirectional": True}),
    ],
)
def test_recurrent_layers(kind, options, given, lengths):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, kind)(3, 4, dtype=torch.float64, **options)
    ours = getattr(nn, kind)(3, 4, dtype=gradient.float64, **options)
    ours.load_state_dict({k: gradient.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    x = padded(lengths)
    directions = 2 if options.get("bidirectional") else 1
    rows = options.get("num_layers", 1) * directions
    sizes = [options.get("proj_size") or 4, 4][: 2 if kind == "LSTM" else 1]
    state = [padded([rows] * len(lengths), size, seed=9) for size in sizes]
    results, packs = [], []
    for library, module, utils in (
        (torch, theirs, torch.nn.utils.rnn),
        (gradient, ours, rnn),
    ):
        leaves = [library.tensor(a, requires_grad=True) for a in (x, *state)]
        packed = utils.pack_padded_sequence(leaves[0], lengths, enforce_sorted=falling(lengths))
        hx = (tuple(leaves[1:]) if kind == "LSTM" else leaves[1]) if given else None
        out, end = module(packed, hx)
        ends = end if kind == "LSTM" else (end,)
        plain, _ = utils.pad_packed_sequence(out)
        loss = (plain**2).sum() + sum((part * (i + 2)).sum() for i, part in enumerate(ends))
        loss.backward()
        wanted = [*leaves[: None if given else 1], *module.parameters()]
        results.append([*map(as_numpy, (plain, *ends)), *(as_numpy(t.grad) for t in wanted)])
        packs.append(out)
    same(packs[1][1:], packs[0][1:])
    for got, expected in zip(results[1], results[0], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_to_another_dtype_and_device():
    packed = rnn.pack_sequence([gradient.ones(2), gradient.ones(3)], enforce_sorted=False)
    assert packed.double().data.dtype == gradient.float64
    for name, dtype in (("byte", "uint8"), ("char", "int8"), ("short", "int16"), ("int", "int32")):
        assert getattr(packed, name)().data.dtype is getattr(gradient, dtype)
    assert packed.long().data.dtype is gradient.int64
    assert packed.to(gradient.float16).data.dtype == gradient.float16
    assert packed.to("cpu") is packed
    assert not packed.is_cuda


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([1, 2], {}, "lengths in decreasing order, got .1, 2.; enforce_sorted=False"),
        ([2, 0], {}, "lengths of at least 1"),
        ([4, 1], {}, "lengths of at most 3, got 4"),
        ([3], {}, "2 lengths, got 1"),
    ],
)
def test_misuse(lengths, options, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        rnn.pack_padded_sequence(gradient.ones(3, 2), lengths, **options)


def test_other_misuse():
    packed = rnn.pack_sequence([gradient.ones(3, 2), gradient.ones(1, 2)])
    with pytest.raises(ValueError, match="total_length of at least 3, got 2"):
        rnn.pad_packed_sequence(packed, total_length=2)
    with pytest.raises(RuntimeError, match=r"LSTM: expected packed data \(steps, 5\)"):
        nn.LSTM(5, 4)(packed)
    with pytest.raises(RuntimeError, match=r"GRU: expected a hidden state \(1, 2, 4\)"):
        nn.GRU(2, 4)(packed, gradient.zeros(1, 3, 4))
