"""`library` and `ops`: operators of one's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
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


def test_lists_of_tensors_have_gradients() -> None:
    seen: list[Any] = []

    @library.custom_op("own::join", mutates_args=())
    def join(xs: Sequence[gradient.Tensor], factor: float) -> gradient.Tensor:
        return gradient.tensor(np.concatenate([x.numpy() for x in xs]) * factor)

    def keep(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.factor, ctx.sizes = inputs[1], [len(x) for x in inputs[0]]

    def backward(ctx: Any, grad: Any) -> Any:
        seen.append(ctx.needs_input_grad)
        return [part * ctx.factor for part in grad.split(ctx.sizes)], None

    join.register_autograd(backward, setup_context=keep)
    x, z = (gradient.ones(n, requires_grad=True) for n in (2, 1))
    for given in ([x, gradient.ones(3), z], (x, gradient.ones(3), z)):
        x.grad = z.grad = None
        join(given, 3.0).sum().backward()
        assert x.grad is not None and x.grad.tolist() == [3.0, 3.0]
        assert z.grad is not None and z.grad.tolist() == [3.0]
    assert seen == [([True, False, True], False)] * 2
    join.register_autograd(lambda ctx, grad: ([grad], None), setup_context=keep)
    with pytest.raises(BackendError, match="own::join.backward: expected 3 gradients for a list"):
        join([x, x, x], 3.0).sum().backward()


def test_results_in_lists_and_tuples() -> None:
    @library.custom_op("own::halves", mutates_args=())
    def halves(x: gradient.Tensor) -> tuple[list[gradient.Tensor], gradient.Tensor]:
        return [x[:1] * 2, x[1:] * 3], (x > 0).long()

    def backward(ctx: Any, parts: Any, index: Any) -> Any:
        assert isinstance(parts, list)
        return gradient.cat([parts[0] * 2, parts[1] * 3])

    halves.register_autograd(backward)
    x = gradient.ones(3, requires_grad=True)
    (first, second), index = halves(x)
    assert first.requires_grad and second.requires_grad and not index.requires_grad
    second.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.0, 3.0, 3.0]


def test_operators_that_change_an_argument() -> None:
    @library.custom_op("own::fill", mutates_args={"x"})
    def fill(x: gradient.Tensor, value: float) -> None:
        x.fill_(value)

    weight = gradient.ones(3, requires_grad=True)
    x = weight * 2
    assert fill(x, 5.0) is None and x.tolist() == [5.0] * 3
    saved = gradient.ones(3)
    y = weight * saved
    fill(saved, 2.0)
    with pytest.raises(RuntimeError, match="fill_ .* overwrote it in place"):
        y.sum().backward()
    with pytest.raises(BackendError, match="expected an operator that changes no argument"):
        fill.register_autograd(lambda ctx, grad: grad)


def test_dispatch_keys_with_gradients() -> None:
    own = library.Library("own", "DEF")
    x = gradient.ones(2, requires_grad=True)
    for key in ("CompositeImplicitAutograd", ""):
        own.define(f"f{len(key)}(Tensor x) -> Tensor")
        own.impl(f"f{len(key)}", lambda x: x * 2, key)
        (grad,) = gradient.autograd.grad(getattr(operators.own, f"f{len(key)}")(x).sum(), x)
        assert grad.tolist() == [2.0, 2.0]

    class Seven(gradient.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return operators.own.seven(x)  # below autograd: the CPU's kernel

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return grads[0] * 7

    library.define("own::seven", "(Tensor x) -> Tensor")
    library.impl("own::seven", "CPU", lambda x: x * 2)
    library.impl("own::seven", "Autograd", Seven.apply)
    y = operators.own.seven(x)
    (grad,) = gradient.autograd.grad(y.sum(), x)
    assert y.tolist() == [2.0, 2.0] and grad.tolist() == [7.0, 7.0]


def test_schemas_name_arguments_and_defaults() -> None:
    own = library.Library("own", "DEF")
    own.define("scale(Tensor x, float[2] by=[2.0, 3.0], *, Tensor? y=None, int n=1) -> Tensor")
    own.impl("scale", lambda a, by, *, y, n: a * by[0] * by[1] + n, "CPU")
    assert operators.own.scale(gradient.ones(1)).tolist() == [7.0]
    assert operators.own.scale(x=gradient.ones(1), by=(1.0, 2.0), n=5).tolist() == [7.0]
    own.define("scale.out(Tensor x, *, Tensor(a!) out) -> Tensor(a!)")
    own.impl("scale.out", lambda x, out: out.copy_(x), "CPU")
    out = gradient.zeros(1)
    assert operators.own.scale.out(gradient.ones(1), out=out).tolist() == out.tolist() == [1.0]
    assert operators.own.scale.default(gradient.ones(1)).tolist() == [7.0]
    assert operators.own.scale.overloads() == ["default", "out"]
    with pytest.raises(AttributeError, match="own::scale has no overload 'other'"):
        operators.own.scale.other  # noqa: B018


def typed(
    x: gradient.Tensor,
    y: gradient.Tensor | None,
    xs: Sequence[gradient.Tensor],
    factor: float = 2.0,
    *,
    n: int = 1,
    word: str = "w",
    dtype: gradient.dtype = gradient.float32,
) -> tuple[gradient.Tensor, gradient.Tensor]:
    return x, x


def test_the_schema_of_a_function() -> None:
    words = library.infer_schema(typed, mutates_args={"x"}, op_name="typed")
    assert words == (
        "typed(Tensor(a0!) x, Tensor? y, Tensor[] xs, float factor=2.0, *, SymInt n=1, "
        'str word="w", ScalarType dtype=float32) -> (Tensor, Tensor)'
    )
    with pytest.raises(ArgumentError, match="expected a type of x, got none"):
        library.infer_schema(lambda x: x, mutates_args=())


def test_autocast_and_vmap_of_an_operator() -> None:
    double = library.custom_op("own::double", lambda x: x + x, mutates_args=())
    double.register_autocast("cpu", gradient.bfloat16)
    library.register_vmap("own::double", lambda info, in_dims, x: (x + x, in_dims[0]))
    x = gradient.ones(2)
    with gradient.autocast("cpu", dtype=gradient.bfloat16):
        assert double(x).dtype is gradient.bfloat16
        assert double(x.double()).dtype is gradient.float64
    assert double(x).dtype is gradient.float32
    assert gradient.vmap(double)(gradient.arange(3.0)).tolist() == [0.0, 2.0, 4.0]


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
