"""`library` and `ops`: operators of one's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import gradient
from gradient.compat import library, operators
from gradient.errors import ArgumentError, BackendError

pytestmark = pytest.mark.cpu_only


@pytest.fixture(autouse=True)
def own_operators(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(library, "_operators", {})
    yield


def cube(x: gradient.Tensor, factor: float = 2.0) -> gradient.Tensor:
    return gradient.tensor(factor * x.numpy() ** 3)


def set_up(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.factor = inputs[1]


def differentiate(ctx: Any, grad: Any) -> Any:
    return grad * 3 * ctx.factor * ctx.saved_tensors[0] ** 2, None


def test_an_operator_with_a_gradient() -> None:
    op = library.custom_op("own::cube", cube, mutates_args=())
    op.register_autograd(differentiate, setup_context=set_up)
    x = gradient.tensor([1.0, -2.0, 3.0], requires_grad=True)
    for call in (op, operators.own.cube, operators.own.cube.default):
        x.grad = None
        y = call(x, factor=5.0)
        y.sum().backward()
        assert y.tolist() == [5.0, -40.0, 135.0]
        assert x.grad is not None and x.grad.tolist() == [15.0, 60.0, 135.0]
    assert not op(x.detach()).requires_grad


def test_the_default_of_an_argument_reaches_setup_context() -> None:
    op = library.custom_op("own::cube", cube, mutates_args=())
    op.register_autograd(differentiate, setup_context=set_up)
    x = gradient.tensor([2.0], requires_grad=True)
    op(x).backward()
    assert x.grad is not None and x.grad.tolist() == [24.0]


def test_arguments_that_are_only_passed_by_name() -> None:
    @library.custom_op("own::scale", mutates_args=())
    def scale(x: gradient.Tensor, *, factor: float = 2.0) -> gradient.Tensor:
        return x * factor

    def keep(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
        ctx.factor = keyword_only_inputs["factor"]

    scale.register_autograd(lambda ctx, grad: grad * ctx.factor, setup_context=keep)
    for options, factor in (({}, 2.0), ({"factor": 7.0}, 7.0)):
        x = gradient.tensor([1.0], requires_grad=True)
        scale(x, **options).backward()
        assert x.grad is not None and x.grad.tolist() == [factor]


def test_an_operator_without_a_gradient_fails_in_the_backward_pass() -> None:
    op = library.custom_op("own::cube", cube, mutates_args=())
    y = op(gradient.tensor([1.0], requires_grad=True), 2.0)
    with pytest.raises(BackendError, match="own::cube: expected a gradient: register_autograd"):
        y.backward()


def test_kernels_of_devices() -> None:
    @library.custom_op("own::double", mutates_args=(), device_types="cpu")
    def double(x: gradient.Tensor) -> gradient.Tensor:
        return x + x

    @double.register_fake
    def _(x: gradient.Tensor) -> gradient.Tensor:
        return gradient.empty_like(x)

    meta = gradient.ones(2, 3, device="meta")
    assert double(gradient.ones(2)).tolist() == [2.0, 2.0]
    assert double(meta).shape == (2, 3) and str(double(meta).device) == "meta"
    double._kernels.pop("meta")
    with pytest.raises(BackendError, match="own::double: expected a kernel for meta, got cpu"):
        double(meta)


def test_a_library_of_schemas_and_implementations() -> None:
    own = library.Library("own", "DEF")
    assert own.define("triple(Tensor x) -> Tensor") == "triple"
    own.impl("triple", lambda x: 3 * x, "CPU")
    own.impl("triple", lambda x: 1 / 0, "AutocastCPU")  # changes nothing
    library.define("own::quadruple", "(Tensor x) -> Tensor")
    library.impl("own::quadruple", "default", lambda x: 4 * x)
    assert operators.own.triple(gradient.ones(1)).tolist() == [3.0]
    assert operators.own.quadruple(gradient.ones(1)).tolist() == [4.0]
    with pytest.raises(AttributeError, match="'own' object has no attribute 'other'"):
        operators.own.other  # noqa: B018
    with pytest.raises(ArgumentError, match="a name such as 'namespace::name'"):
        library.custom_op("double", cube)
    library.register_fake("torchvision::nms", lambda boxes: boxes)
    with pytest.raises(BackendError, match="torchvision::nms: expected a kernel for cpu, got meta"):
        operators.torchvision.nms(gradient.ones(1))


def test_a_compiled_library_is_refused_as_one_that_cannot_be_read() -> None:
    with pytest.raises(OSError, match="built for PyTorch"):
        operators.load_library("_C.so")


def test_functions_of_aten() -> None:
    x = gradient.tensor([-1.0, 4.0])
    assert operators.aten.relu(x).tolist() == operators.aten.relu.default(x).tolist() == [0.0, 4.0]
    assert operators.aten.add.Tensor(x, x).tolist() == [-2.0, 8.0]
    assert operators.aten.add.Tensor is operators.aten.add.Tensor
    assert operators.aten.expand(x, (2, 2)).shape == (2, 2)
    with pytest.raises(BackendError, match="there is no function _nothing here"):
        operators.aten._nothing(x)


def test_torch_ops_are_not_the_formulas_of_this_package() -> None:
    code = (
        "import gradient.compat.torch as t; t.install()\n"
        "import torch, torch.ops, torch.functional\n"
        "@torch.library.custom_op('own::double', mutates_args=())\n"
        "def double(x: torch.Tensor) -> torch.Tensor: return x + x\n"
        "print(torch.ops.own.double(torch.ones(1)).item(), torch.torch is torch)\n"
        "print(torch.functional.einsum('i,i', torch.ones(3), torch.ones(3)).item())\n"
        "print('USE_MKL' in torch.__config__.show())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2.0", "True", "3.0", "True"], done.stderr
