"""PyTorch's own module database: its samples run through both, and results and gradients compared.

The weights are copied from PyTorch's module; both compute in float64, in training and evaluation.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::UserWarning")]
torch = pytest.importorskip("torch")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_modules import module_db

SAMPLES = 16
"""Of each module, at most."""

ABSENT: set[str] = set()
"""Modules of PyTorch that gradient does not have."""

REFUSED = {
    "Embedding": {"sparse"},
    "TransformerEncoder": {"enable_nested_tensor"},
}
"""Options that gradient refuses, or that mean nothing here."""

WIDER = {
    *("Softmax", "Softmax2d", "LogSoftmax", "Softmin", "LayerNorm", "RMSNorm", "Transformer"),
    *("TransformerEncoder", "TransformerEncoderLayer", "TransformerDecoderLayer"),
    "MultiheadAttention",
}
"""Modules in which float32 stands for bfloat16 under the CPU's autocast, as softmax and norms have
it here (test_autocast.py)."""

CHOSEN = [info for info in module_db if hasattr(nn, info.module_cls.__name__)]


def name_of(info: Any) -> str:
    return info.module_cls.__name__


def converted(value: Any) -> Any:
    """A sample's arguments with gradient's tensors, dtypes and modules for PyTorch's."""
    if isinstance(value, torch.Tensor):
        made = gradient.from_numpy(value.detach().numpy().copy())
        return made.requires_grad_(value.requires_grad)
    if isinstance(value, torch.dtype):
        return getattr(gradient, str(value).removeprefix("torch."))
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, torch.nn.Module):
        return twin(value)
    if isinstance(value, (list, tuple)):
        return type(value)(converted(v) for v in value)
    if isinstance(value, dict):
        return {key: converted(v) for key, v in value.items()}
    return getattr(nn.functional, value.__name__) if callable(value) else value


def twin(theirs: Any) -> Any:
    """The layers that PyTorch's samples hand to TransformerEncoder and TransformerDecoder."""
    return getattr(nn, type(theirs).__name__)(
        theirs.self_attn.embed_dim,
        theirs.self_attn.num_heads,
        theirs.linear1.out_features,
        theirs.dropout.p,
        getattr(nn.functional, theirs.activation.__name__),
        theirs.norm1.eps,
        batch_first=theirs.self_attn.batch_first,
        norm_first=theirs.norm_first,
        bias=theirs.linear1.bias is not None,
    )


def leaves(value: Any, kind: type) -> list[Any]:
    if isinstance(value, dict):
        return leaves(list(value.values()), kind)
    if isinstance(value, (list, tuple)):
        return list(itertools.chain.from_iterable(leaves(v, kind) for v in value))
    return [value] if isinstance(value, kind) else []


def samples(info: Any, training: bool) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        every = info.module_inputs_func(
            info, device="cpu", dtype=torch.float64, requires_grad=True, training=training
        )
    chosen = []
    for sample in every:
        made, called = sample.constructor_input, sample.forward_input
        refused = REFUSED.get(name_of(info), set()) & {
            name for name, value in made.kwargs.items() if value is True
        }
        random = training and any(made.kwargs.get(name) for name in ("dropout", "dropout_p"))
        complex_numbers = any(
            t.is_complex() for t in leaves([made.args, made.kwargs, called.args], torch.Tensor)
        )
        packed = leaves([called.args], torch.nn.utils.rnn.PackedSequence)
        if called is not None and not (refused or random or complex_numbers or packed):
            chosen.append(sample)
    return chosen[:SAMPLES]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("info", CHOSEN, ids=name_of)
def test_module(info: Any, training: bool) -> None:
    if training and "Dropout" in name_of(info):
        pytest.skip("random")
    for number, sample in enumerate(samples(info, training)):
        made, called = sample.constructor_input, sample.forward_input
        what = f"sample {number} of {name_of(info)}: {made} {called}"[:600]
        theirs = info.module_cls(*made.args, **made.kwargs).double().train(training)
        if isinstance(theirs, torch.nn.modules.lazy.LazyModuleMixin):
            with torch.no_grad():
                theirs(*called.args, **called.kwargs)
        kind = getattr(nn, name_of(info))
        ours = kind(*converted(made.args), **converted(made.kwargs)).double().train(training)
        ours.load_state_dict(converted(dict(theirs.state_dict())))
        their_args, their_kwargs = called.args, called.kwargs
        our_args, our_kwargs = converted(their_args), converted(their_kwargs)
        wanted = leaves(theirs(*their_args, **their_kwargs), torch.Tensor)
        found = leaves(ours(*our_args, **our_kwargs), gradient.Tensor)
        assert len(found) == len(wanted), what
        for mine, other in zip(found, wanted, strict=True):
            compare(mine, other, what)
        backward(found, gradient)
        backward(wanted, torch)
        pairs = zip(
            [*leaves([our_args, our_kwargs], gradient.Tensor), *ours.parameters()],
            [*leaves([their_args, their_kwargs], torch.Tensor), *theirs.parameters()],
            strict=True,
        )
        for mine, other in pairs:
            if other.is_leaf and other.grad is not None:
                compare(mine.grad, other.grad, f"gradient of {what}")
                mine.grad = other.grad = None


@pytest.mark.parametrize("info", CHOSEN, ids=name_of)
def test_dtypes_under_autocast(info: Any) -> None:
    """Of float32 modules, given float32 and bfloat16."""
    for number, sample in enumerate(samples(info, training=False)[:4]):
        made, called = (narrowed(part, "float32") for part in given(sample))
        theirs = info.module_cls(*made[0], **made[1]).float().eval()
        ours = getattr(nn, name_of(info))(*converted(made[0]), **converted(made[1])).float().eval()
        for dtype in ("float32", "bfloat16"):
            args, kwargs = narrowed(called, dtype)
            our_args, our_kwargs = narrowed(converted(called), dtype)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                try:
                    wanted = leaves(theirs(*args, **kwargs), torch.Tensor)
                except RuntimeError:
                    continue  # it takes no inputs of two dtypes
            with gradient.no_grad(), gradient.amp.autocast("cpu"):
                found = leaves(ours(*our_args, **our_kwargs), gradient.Tensor)
            got, expected = ([str(t.dtype).split(".")[1] for t in each] for each in (found, wanted))
            if name_of(info) in WIDER:
                expected = [
                    mine if (mine, other) == ("float32", "bfloat16") else other
                    for mine, other in zip(got, expected, strict=True)
                ]
            assert got == expected, f"sample {number} of {name_of(info)}, {dtype}"


def given(sample: Any) -> list[tuple[Any, Any]]:
    return [(part.args, part.kwargs) for part in (sample.constructor_input, sample.forward_input)]


def narrowed(value: Any, dtype: str) -> Any:
    """The floats in arguments of either package as ones of `dtype`."""
    if isinstance(value, (torch.Tensor, gradient.Tensor)):
        package = torch if isinstance(value, torch.Tensor) else gradient
        return value.detach().to(getattr(package, dtype)) if value.is_floating_point() else value
    if isinstance(value, torch.nn.Module):
        return value.float()
    if type(value) in (list, tuple):
        return type(value)(narrowed(v, dtype) for v in value)
    return {k: narrowed(v, dtype) for k, v in value.items()} if type(value) is dict else value


def backward(results: list[Any], package: Any) -> None:
    for number, result in enumerate(results):
        if result.requires_grad:
            weights = np.random.default_rng(number).standard_normal(tuple(result.shape))
            result.backward(package.from_numpy(np.asarray(weights)), retain_graph=True)


def compare(mine: Any, wanted: Any, what: str) -> None:
    assert mine is not None, what
    assert tuple(mine.shape) == tuple(wanted.shape), what
    assert str(mine.dtype) == str(wanted.dtype).replace("torch", "gradient"), what
    np.testing.assert_allclose(
        mine.detach().numpy(), wanted.detach().numpy(), rtol=1e-6, atol=1e-8, err_msg=what
    )


def test_what_is_absent_is_known() -> None:
    names = {name_of(info) for info in module_db}
    assert {name for name in names if not hasattr(nn, name)} == ABSENT
