"""The cost of common calls on small tensors, beside PyTorch eager's: most of it is Python's.

Small models, the bookkeeping of a decoding loop and data loading are made of such calls. The table
shows which of them deserve work; they have no target. NumPy's line is the time for the arrays
alone, the minimum for tensors on them. The minimum overhead is that of a call's pieces, which are
measured too (`--only piece`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

import gradient
from bench.cases import Options
from bench.measure import interleave
from bench.result import Result
from gradient.autograd.modes import mode, switched
from gradient.autograd.node import Node, next_sequence_nr
from gradient.autograd.variable import Variable, wrap
from gradient.backends.numpy import kernels

# name -> call(p, x, w): the package, x (64, 64) without a graph, w (64, 64) that requires one
CALLS: dict[str, Callable[[Any, Any, Any], object]] = {
    # Creation
    "tensor([1.0, 2.0])": lambda p, x, w: p.tensor([1.0, 2.0]),
    "zeros(4, 4)": lambda p, x, w: p.zeros(4, 4),
    "randn(4, 4)": lambda p, x, w: p.randn(4, 4),
    "rand(4, 4)": lambda p, x, w: p.rand(4, 4),
    "arange(10)": lambda p, x, w: p.arange(10),
    "zeros_like(x)": lambda p, x, w: p.zeros_like(x),
    # Questions and conversions
    "x.shape": lambda p, x, w: x.shape,
    "len(x)": lambda p, x, w: len(x),
    "x.to(float32)": lambda p, x, w: x.to(p.float32),
    "x.double()": lambda p, x, w: x.double(),
    "x.contiguous()": lambda p, x, w: x.contiguous(),
    "x.clone()": lambda p, x, w: x.clone(),
    "w.detach()": lambda p, x, w: w.detach(),
    "x.sum().item()": lambda p, x, w: x.sum().item(),
    "with no_grad()": lambda p, x, w: _without_grad(p),
    # Views
    "x[3]": lambda p, x, w: x[3],
    "x[:, 1:5]": lambda p, x, w: x[:, 1:5],
    "for row in x": lambda p, x, w: [row for row in x],  # noqa: C416 (iteration is measured)
    "x.unsqueeze(0)": lambda p, x, w: x.unsqueeze(0),
    "x.t()": lambda p, x, w: x.t(),
    "w[3]": lambda p, x, w: w[3],
    "w.view(8, 8, 64)": lambda p, x, w: w.view(8, 8, 64),
    "w.reshape(-1)": lambda p, x, w: w.reshape(-1),
    "w.flatten()": lambda p, x, w: w.flatten(),
    "w.unsqueeze(0)": lambda p, x, w: w.unsqueeze(0),
    "w.squeeze(0)": lambda p, x, w: w.squeeze(0),
    "w.transpose(0, 1)": lambda p, x, w: w.transpose(0, 1),
    "w.permute(1, 0)": lambda p, x, w: w.permute(1, 0),
    "w.T": lambda p, x, w: w.T,
    "w.expand(2, 64, 64)": lambda p, x, w: w.expand(2, 64, 64),
    "w.chunk(3)": lambda p, x, w: w.chunk(3),
    # Several tensors
    "cat([w, w])": lambda p, x, w: p.cat([w, w]),
    "stack([w, w])": lambda p, x, w: p.stack([w, w]),
    "where(x > 0, w, x)": lambda p, x, w: p.where(x > 0, w, x),
    # Elementwise
    "x > 0": lambda p, x, w: x > 0,
    "w * 2.0": lambda p, x, w: w * 2.0,
    "w + w": lambda p, x, w: w + w,
    "w / 2": lambda p, x, w: w / 2,
    "-w": lambda p, x, w: -w,
    "w ** 2": lambda p, x, w: w**2,
    "w.exp()": lambda p, x, w: w.exp(),
    "w.masked_fill(x > 0, 0.0)": lambda p, x, w: w.masked_fill(x > 0, 0.0),
    # Writes
    "x += 1": lambda p, x, w: x.__iadd__(1),
    "x[3] = 0": lambda p, x, w: x.__setitem__(3, 0),
    # Reductions and products
    "w.sum()": lambda p, x, w: w.sum(),
    "w.sum(-1)": lambda p, x, w: w.sum(-1),
    "w.mean()": lambda p, x, w: w.mean(),
    "x.argmax()": lambda p, x, w: x.argmax(),
    "x.argmax(-1)": lambda p, x, w: x.argmax(-1),
    "x.max(-1)": lambda p, x, w: x.max(-1),
    "x @ w": lambda p, x, w: x @ w,
    # Functions
    "F.linear(x, w)": lambda p, x, w: p.nn.functional.linear(x, w),
    "F.relu(w)": lambda p, x, w: p.nn.functional.relu(w),
    "F.gelu(w)": lambda p, x, w: p.nn.functional.gelu(w),
    "F.softmax(w, -1)": lambda p, x, w: p.nn.functional.softmax(w, -1),
    "F.layer_norm(w, (64,))": lambda p, x, w: p.nn.functional.layer_norm(w, (64,)),
    "F.dropout(w, 0.1)": lambda p, x, w: p.nn.functional.dropout(w, 0.1),
    "F.mse_loss(w, x)": lambda p, x, w: p.nn.functional.mse_loss(w, x),
}

# name -> prepare(p, x, w), which returns the timed function
PREPARED: dict[str, Callable[[Any, Any, Any], Callable[[], object]]] = {
    "x.copy_(y)": lambda p, x, w: _copy(p, x),
    "F.embedding(ids, w)": lambda p, x, w: _embedding(p, w),
    "F.cross_entropy(w, ids)": lambda p, x, w: _cross_entropy(p, w),
    "nn.Linear(64, 64)(x[:4])": lambda p, x, w: _linear(p, x),
    "(w * 1).sum().backward()": lambda p, x, w: lambda: (w * 1).sum().backward(),
    "zero_grad()": lambda p, x, w: _optimizer(p).zero_grad,
    "SGD.step()": lambda p, x, w: _optimizer(p).step,
}


# name -> call(x, w, ids), on arrays: the same in NumPy, without a tensor or a graph
NUMPY: dict[str, Callable[[Any, Any, Any], object]] = {
    "zeros(4, 4)": lambda x, w, ids: np.zeros((4, 4), np.float32),
    "zeros_like(x)": lambda x, w, ids: np.zeros(x.shape, x.dtype),
    "x.double()": lambda x, w, ids: x.astype(np.float64),
    "x.sum().item()": lambda x, w, ids: np.add.reduce(x, None).item(),
    "x[3]": lambda x, w, ids: x[3],
    "x[:, 1:5]": lambda x, w, ids: x[:, 1:5],
    "for row in x": lambda x, w, ids: [row for row in x],  # noqa: C416
    "x.unsqueeze(0)": lambda x, w, ids: x.reshape(1, 64, 64),
    "x.t()": lambda x, w, ids: x.transpose(1, 0),
    "w[3]": lambda x, w, ids: w[3],
    "w.view(8, 8, 64)": lambda x, w, ids: w.reshape(8, 8, 64),
    "w.reshape(-1)": lambda x, w, ids: w.reshape(-1),
    "w.flatten()": lambda x, w, ids: w.reshape(-1),
    "w.unsqueeze(0)": lambda x, w, ids: w.reshape(1, 64, 64),
    "w.squeeze(0)": lambda x, w, ids: w.reshape(64, 64),
    "w.transpose(0, 1)": lambda x, w, ids: w.transpose(1, 0),
    "w.permute(1, 0)": lambda x, w, ids: w.transpose(1, 0),
    "w.T": lambda x, w, ids: w.T,
    "w.expand(2, 64, 64)": lambda x, w, ids: np.ndarray((2, 64, 64), w.dtype, w, 0, (0, 256, 4)),
    "w.chunk(3)": lambda x, w, ids: (w[:22], w[22:44], w[44:]),
    "cat([w, w])": lambda x, w, ids: np.concatenate([w, w]),
    "stack([w, w])": lambda x, w, ids: np.concatenate([w[None], w[None]]),
    "where(x > 0, w, x)": lambda x, w, ids: np.where(x > 0, w, x),
    "x > 0": lambda x, w, ids: x > 0,
    "w * 2.0": lambda x, w, ids: w * 2.0,
    "w + w": lambda x, w, ids: w + w,
    "w / 2": lambda x, w, ids: w / 2,
    "-w": lambda x, w, ids: -w,
    "w ** 2": lambda x, w, ids: w**2,
    "w.exp()": lambda x, w, ids: np.exp(w),
    "w.masked_fill(x > 0, 0.0)": lambda x, w, ids: np.where(x > 0, np.float32(0), w),
    "x += 1": lambda x, w, ids: x.__iadd__(1),
    "x[3] = 0": lambda x, w, ids: x.__setitem__(3, 0),
    "w.sum()": lambda x, w, ids: np.add.reduce(w, None),
    "w.sum(-1)": lambda x, w, ids: np.add.reduce(w, -1),
    "w.mean()": lambda x, w, ids: np.add.reduce(w, None) / 4096,
    "x.argmax()": lambda x, w, ids: x.argmax(),
    "x.argmax(-1)": lambda x, w, ids: x.argmax(-1),
    "x.max(-1)": lambda x, w, ids: (x.argmax(-1), np.maximum.reduce(x, -1)),
    "x @ w": lambda x, w, ids: x @ w,
    "F.linear(x, w)": lambda x, w, ids: x @ w.T,
    "F.relu(w)": lambda x, w, ids: np.maximum(w, 0),
    "F.softmax(w, -1)": lambda x, w, ids: _softmax(w),
    "F.mse_loss(w, x)": lambda x, w, ids: np.add.reduce((w - x) ** 2, None) / 4096,
    "x.copy_(y)": lambda x, w, ids: np.copyto(x, w),
    "F.embedding(ids, w)": lambda x, w, ids: w.take(ids, 0),
    "F.cross_entropy(w, ids)": lambda x, w, ids: np.log(_softmax(w)[np.arange(64), np.arange(64)]),
    "nn.Linear(64, 64)(x[:4])": lambda x, w, ids: x[:4] @ w.T + w[0],
}


def _softmax(x: Any) -> Any:
    powers = np.exp(x - np.maximum.reduce(x, -1, None, None, True))
    return powers / np.add.reduce(powers, -1, None, None, True)


def _without_grad(p: Any) -> None:
    with p.no_grad():
        pass


def _copy(p: Any, x: Any) -> Callable[[], object]:
    y = p.ones_like(x)
    return lambda: x.copy_(y)


def _embedding(p: Any, w: Any) -> Callable[[], object]:
    ids = p.arange(16)
    return lambda: p.nn.functional.embedding(ids, w)


def _cross_entropy(p: Any, w: Any) -> Callable[[], object]:
    targets = p.arange(64)
    return lambda: p.nn.functional.cross_entropy(w, targets)


def _linear(p: Any, x: Any) -> Callable[[], object]:
    layer, rows = p.nn.Linear(64, 64), x[:4]
    return lambda: layer(rows)


def _optimizer(p: Any) -> Any:
    """An optimiser of a small perceptron's four parameters, which keep their gradients."""
    layers = p.nn.Linear(16, 32), p.nn.Linear(32, 4)
    parameters = [each for layer in layers for each in layer.parameters()]
    optimizer = p.optim.SGD(parameters, lr=0.0)
    for each in parameters:
        each.grad = p.zeros_like(each)
    return optimizer


def arguments(package: ModuleType) -> tuple[Any, Any, Any]:
    """The package and its two tensors, with the same numbers in every package."""
    values = np.random.default_rng(0).standard_normal((2, 64, 64), dtype=np.float32)
    return package, package.tensor(values[0]), package.tensor(values[1], requires_grad=True)


def contenders(name: str, packages: dict[str, ModuleType]) -> dict[str, Callable[[], object]]:
    """The call `name` in each of the packages."""
    given = {label: arguments(package) for label, package in packages.items()}
    if name in PREPARED:
        calls = {label: PREPARED[name](*each) for label, each in given.items()}
    else:
        call = CALLS[name]
        calls = {label: lambda each=each: call(*each) for label, each in given.items()}
    if name in NUMPY:
        x, w = np.random.default_rng(0).standard_normal((2, 64, 64), dtype=np.float32)
        of_arrays, ids = NUMPY[name], np.arange(16)
        calls["numpy"] = lambda: of_arrays(x, w, ids)
    return calls


def pieces() -> dict[str, Callable[[], object]]:
    """The parts of calls, by name, and an empty function, whose time is to be subtracted."""
    x = gradient.ones(64, 64)
    array, backend = x.array, x.backend
    reduce = kernels.load("reductions").sum_of_short_rows
    row = np.ones(64, np.float32)

    def of_keywords(a: object, **named: object) -> object:
        return a if not named else None

    def questions() -> object:
        return isinstance(x, Variable) and array.dtype.char and (not switched or mode.grad)

    def node() -> None:
        made: Any = Node()
        made.op = made.options = None
        made.backend = backend
        made.parents = (None,)
        made.saved = (array,)
        made.sequence_nr = next_sequence_nr()
        made.shape = array.shape
        made.dtype = array.dtype
        frame = sys._getframe(1)
        made.location = (frame.f_code, frame.f_lasti)

    def view() -> None:
        x.view_info = (x, None, {"shape": (64, 64)})
        x._viewed = True

    return {
        "nothing": lambda: None,
        "a call that takes keywords": lambda: of_keywords(x),
        "is it a tensor, of which dtype, recorded": questions,
        "a tensor around an array": lambda: wrap(array, backend),
        "a node, with the line that called": node,
        "a link between a view and its base": view,
        "a kernel of two arrays": lambda: reduce(0, 0, row, 1, 64, row),
    }


def run(options: Options) -> Iterator[Result]:
    named = {f"piece: {name}": piece for name, piece in pieces().items()}
    wanted = {name: piece for name, piece in named.items() if options.wants(name)}
    timed = interleave(wanted, rounds=options.rounds(40), sample_seconds=0.001) if wanted else {}
    for name, sample in timed.items():
        yield Result(
            case="calls",
            what=name,
            contender="gradient",
            value=1e9 * sample.median,
            unit="ns",
            best=1e9 * sample.best,
            samples=len(sample.seconds),
        )
    packages: dict[str, ModuleType] = {"gradient": gradient}
    if options.peer("torch"):
        import torch

        torch.set_num_threads(options.threads)
        packages["torch eager"] = torch
    for name in filter(options.wants, (*CALLS, *PREPARED)):
        samples = interleave(
            contenders(name, packages), rounds=options.rounds(40), sample_seconds=0.001
        )
        for contender, sample in samples.items():
            own = contender == "torch eager" or "torch eager" not in samples
            peer = None if own else "torch eager"
            yield Result(
                case="calls",
                what=name,
                contender=contender,
                value=1e6 * sample.median,
                unit="us",
                best=1e6 * sample.best,
                samples=len(sample.seconds),
                peer=peer,
                ratio=sample.ratio(samples[peer]) if peer else None,
            )
