"""`__torch_function__` under `gradient.compat.torch` beside PyTorch: one program, with both."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.parity, pytest.mark.cpu_only]

PROGRAM = '''
import json, operator, sys, warnings
warnings.simplefilter("ignore")
if sys.argv[1] == "gradient":
    import gradient.compat.torch
    gradient.compat.torch.install()
import torch
import torch.nn.functional as F
from torch import overrides
from torch._C import DisableTorchFunctionSubclass

log = []

def told(v):
    if isinstance(v, torch.Tensor):
        return type(v).__name__, v.tolist()
    if isinstance(v, (list, tuple)):
        return [told(each) for each in v]
    return str(v)

class L(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        log.append((func, [t.__name__ for t in types if t is not torch.Tensor], args))
        return super().__torch_function__(func, types, args, kwargs)

class M(L):
    pass

class Other:
    """No tensor: functions are given it, too."""
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.mean:
            return "mean of other"
        if func in (F.relu, torch.linalg.norm, torch.cat):
            return f"{func.__name__.split('_')[-1]} of other"
        return NotImplemented

x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).as_subclass(L)
y = torch.tensor([[0.5, 2.0], [3.0, -4.0]]).as_subclass(M)
p = torch.tensor([[2.0, 2.0], [-1.0, 4.0]])
calls = {}
for name in "add sub mul truediv mod pow matmul ne lt le gt ge".split():
    run = getattr(operator, name)
    calls[name] = lambda run=run: run(x, p)
    calls[name + " reflected"] = lambda run=run: run(p, x)
    if name != "matmul":
        calls[name + " number"] = lambda run=run: run(x, 2.0)
for name in "iadd isub imul itruediv ipow".split():
    calls[name] = lambda run=getattr(operator, name): run(x.clone(), p)
for name in ("radd", "rmul"):
    calls[name] = lambda run=getattr(operator, name[1:]): run(2.0, x)
calls |= {
    "both": lambda: x * y,
    "neg": lambda: -x,
    "pos": lambda: +x,
    "abs": lambda: abs(x),
    "index": lambda: x[0],
    "len": lambda: len(x),
    "contains": lambda: 1 in x,
    "float": lambda: float(x.sum()),
    "T": lambda: x.T,
    "shape": lambda: x.shape,
    "requires_grad": lambda: x.requires_grad,
    "requires_grad_": lambda: x.clone().requires_grad_(),
    "as_subclass": lambda: x.as_subclass(torch.Tensor),
    "max": lambda: tuple(x.max(0)),
    "tolist": lambda: x.tolist(),
    "new_zeros": lambda: x.new_zeros(2),
    "size": lambda: x.size(),
    "cat": lambda: torch.cat([p, x]),
    "stack": lambda: torch.stack((x, y)),
    "where": lambda: torch.where(p > 0, p, x),
    "einsum": lambda: torch.einsum("ij->i", x),
    "zeros_like": lambda: torch.zeros_like(x),
    "exp": lambda: torch.add(x, 1, alpha=2),
    "keyword": lambda: torch.add(p, other=x),
    "relu": lambda: F.relu(x),
    "erf": lambda: torch.special.expm1(x),
    "is_tensor": lambda: torch.is_tensor(x),
    "other mean": lambda: torch.mean(Other()),
    "other relu": lambda: F.relu(Other()),
    "other norm": lambda: torch.linalg.norm(Other()),
    "other cat": lambda: torch.cat([p, Other()]),
    "has": lambda: [overrides.has_torch_function((v,)) for v in (x, p, 1, Other())],
    "has one": lambda: overrides.has_torch_function_unary(x),
    "like": lambda: [overrides.is_tensor_like(v) for v in (x, p, 1, Other())],
    "parameter": lambda: torch.nn.Parameter(p) + 1,
    "repr": lambda: repr(x),
    "reversed": lambda: reversed(x),
}

# Parameters and buffers beside such tensors, of such a class, and of a class of their own

class P(torch.nn.Parameter):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        log.append((func, [t.__name__ for t in types if t is not torch.Tensor], args))
        return super().__torch_function__(func, types, args, kwargs or {})

class Asked:
    """No tensor: the name of each function that it is asked about."""
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        log.append((func, [t.__name__ for t in types if t is not torch.Tensor], ()))
        return func.__name__

weight = torch.nn.Parameter(p.clone(), requires_grad=False)
own = P(p.clone(), requires_grad=False)
whole = [v.to(torch.int64) for v in (p, x)]
for name in "add sub mul truediv floordiv mod pow matmul eq ne lt le gt ge".split():
    run = getattr(operator, name)
    calls |= {
        name + " parameter": lambda run=run: run(weight, x),
        name + " tensor, parameter": lambda run=run: run(x, weight),
        name + " own": lambda run=run: run(own, p),
        name + " own, reflected": lambda run=run: run(p, own),
        name + " asked": lambda run=run: run(p, Asked()),
        name + " asked, parameter": lambda run=run: run(weight, Asked()),
        name + " asked, reflected": lambda run=run: run(Asked(), p),
    }
for name in "and_ or_ xor lshift rshift".split():
    run = getattr(operator, name)
    calls |= {
        name: lambda run=run: run(whole[1], whole[0]),
        name + " reflected": lambda run=run: run(*whole),
        name + " number": lambda run=run: run(whole[1], 1),
        name + " of number": lambda run=run: run(1, whole[1]),
        name + " parameter": lambda run=run: run(
            torch.nn.Parameter(whole[0], requires_grad=False), whole[1]
        ),
    }
for name in "sub truediv floordiv mod pow".split():
    calls[name + " of number"] = lambda run=getattr(operator, name): run(2.0, x)
for name in "iadd isub imul itruediv ifloordiv imod ipow".split():
    run = getattr(operator, name)
    calls[name + " parameter"] = lambda run=run: run(
        torch.nn.Parameter(p.clone(), requires_grad=False), x
    )
calls |= {
    "invert": lambda: ~whole[1],
    "own sum": lambda: own.sum(),
    "own function": lambda: torch.exp(own),
    "own number": lambda: 2 * own,
    "own with another": lambda: own + x,
    "asked mul": lambda: p.mul(Asked()),
    "asked matmul": lambda: p.matmul(Asked()),
    "kept": lambda: torch.nn.Parameter(x) * 2,
    "kept buffer": lambda: torch.nn.Buffer(x) * 2,
    "default": lambda: torch.Tensor.__torch_function__(torch.Tensor.add, (torch.Tensor,), (p, 1)),
    "default of others": lambda: torch.Tensor.__torch_function__(torch.exp, (L,), (x,)),
}
results = {}
for name, call in calls.items():
    log.clear()
    found, asked = call(), list(log)
    results[name] = told(found), [
        (f.__name__.split("_")[-1] if f.__name__.startswith("special") else f.__name__, t, told(a))
        for f, t, a in asked
    ]
with DisableTorchFunctionSubclass():
    log.clear()
    results["disabled"] = told([x + 1, torch.exp(x * 0), F.relu(x)]), len(log)
results["methods"] = [
    f is g for f, g in [
        (log.clear() or x.clone() is None or log[0][0], torch.Tensor.clone),
        (log.clear() or torch.exp(x) is None or log[0][0], torch.exp),
        (log.clear() or torch.cat([x]) is None or log[0][0], torch.cat),
        (log.clear() or F.softmax(x, 0) is None or log[0][0], F.softmax),
    ]
]
results["methods"] += [
    getattr(F, n) is getattr(torch, n)
    for n in "conv1d conv2d conv_transpose2d prelu pixel_shuffle relu softmax dropout".split()
] + [torch.Tensor.__rdiv__ is torch.Tensor.__rtruediv__,
     torch.Tensor.__floordiv__ is torch.Tensor.floor_divide,
     torch.Tensor.__and__ is torch.Tensor.bitwise_and]

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(x.clone())
        self.register_parameter("other", torch.nn.Parameter(y, requires_grad=False))
        self.mean = torch.nn.Buffer(x, persistent=False)

model = Model()
kept = model.weight
results["parameters"] = [
    [n, type(v).__name__, v.requires_grad, v.is_leaf, isinstance(v, torch.nn.Parameter)]
    for n, v in [*model.named_parameters(), *model.named_buffers()]
] + [list(model.state_dict()), isinstance(x, torch.nn.Parameter), isinstance(kept, torch.nn.Buffer),
     isinstance(model.mean, torch.nn.Buffer), isinstance(weight, torch.nn.Parameter)]
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
for _ in range(2):
    optimizer.zero_grad()
    (model.weight * p).sum().backward()
    optimizer.step()
results["trained"] = told(model.weight), type(model.weight.grad).__name__
model.double()
results["double"] = type(model.weight).__name__, str(model.weight.dtype)

try:
    torch.exp(Other())
except TypeError as error:
    results["refused"] = "TypeError"

@overrides.wrap_torch_function(lambda a: (a,))
def mine(a):
    return "mine"

class Mine(Other):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return func is mine
results["wrapped"] = [mine(1), mine(Mine())]
names = "float64 float32 float16 bfloat16 complex64 complex128 int64 int32 int8 uint8 bool"
results["dtypes"] = [
    [str(getattr(torch, n)), repr(getattr(torch, n)), str(torch.zeros(1, dtype=getattr(torch, n)))]
    for n in names.split()
] + [getattr(torch, str(torch.zeros(1).dtype)[6:]) is torch.float32]
results["texts"] = [
    [torch.zeros(1, dtype=getattr(torch, n)).type() for n in names.split()],
    str(p.shape), repr(torch.Size([])), f"{p.shape}", str(p.layout), repr(torch.channels_last),
    repr(torch.max(p, 0)), p.type("torch.DoubleTensor").type(), p.type(p.double().type()).type(),
    repr(torch.finfo(torch.float32)), repr(torch.finfo(torch.bfloat16)),
]
json.dump(results, sys.stdout)
'''


@functools.cache
def results(package: str) -> Any:
    command = [sys.executable, "-c", PROGRAM, package]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout, parse_float=lambda digits: float(f"{float(digits):.4g}"))


def test_the_same_functions_are_asked_about_and_give_the_same() -> None:
    theirs, ours = results("torch"), results("gradient")
    assert theirs.keys() == ours.keys() and len(ours) > 70
    different = {k: (v, ours[k]) for k, v in theirs.items() if v != ours[k]}
    assert different == {}


@pytest.mark.parametrize("name", ["mul", "cat", "relu", "T"])
def test_results_are_of_the_class(name: str) -> None:
    assert results("gradient")[name][0][0] == "L"
