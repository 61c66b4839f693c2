"""Loss scaling on the CUDA backend: the host never waits, and the scale moves as PyTorch's."""

from __future__ import annotations

import importlib
import math
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.amp import GradScaler
from support import fake_cupy
from support.agreement import EPS
from support.fake_device import DEVICE

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ compiles the kernels"),
]

VALUES = [1.0, math.inf, 1.0, 2.0, -1.0, math.nan, math.nan, 0.5, 1.0, 3.0, -math.inf, 1.0]
"""What the loss of each step is multiplied by."""
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "AdamW": {"lr": 0.1, "weight_decay": 0.1},
    "Adam": {"lr": 0.1, "weight_decay": 0.1},
    "SGD": {"lr": 0.125, "momentum": 0.9},
    "RMSprop": {"lr": 0.1, "momentum": 0.9, "centered": True, "weight_decay": 0.1},
    "Lion": {"lr": 0.125, "weight_decay": 0.1},
}


@pytest.fixture(autouse=True)
def _no_waits() -> Iterator[None]:
    fake_cupy.waits.clear()
    yield
    fake_cupy.waits.clear()


def run(lib: Any, optimizer: str, device: str, values: list[float]) -> tuple[Any, Any, list[Any]]:
    """A parameter after steps with losses of these factors, its optimiser, and the scales."""
    options = OPTIMIZERS[optimizer]
    p = lib.tensor([1.0, 2.0, 3.0], device=device, requires_grad=True)
    steps = getattr(lib.optim, optimizer)([p], **options)
    factors = [lib.tensor(value, device=device) for value in values]
    scaler = lib.amp.GradScaler("cpu", 64.0, 1.7, 0.3, 2)
    scales = []
    fake_cupy.waits.clear()
    for factor in factors:
        steps.zero_grad()
        scaler.scale((p * p).sum() * factor).backward()
        scaler.step(steps)
        scaler.update()
        scales.append(scaler.state_dict() if device != DEVICE else scaler._scale.clone())
    return p, steps, scales


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_is_left_out_where_nobody_waits(optimizer: str) -> None:
    """As on the CPU, where the host reads whether it is to be left out."""
    on_device, there, scales = run(gradient, optimizer, DEVICE, VALUES)
    assert fake_cupy.waits == []
    expected, here, states = run(gradient, optimizer, "cpu", VALUES)
    np.testing.assert_allclose(on_device.tolist(), expected.tolist(), rtol=1e-6)
    assert [s.item() for s in scales] == [state["scale"] for state in states]
    for got, wanted in zip(there.state.values(), here.state.values(), strict=True):
        for name, value in wanted.items():
            np.testing.assert_allclose(np.array(got[name].tolist()), np.asarray(value), rtol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_go_on_without_a_scaler_and_from_a_saved_state(optimizer: str) -> None:
    """The count of steps comes back to the host when it is needed there."""
    ends = []
    for device in (DEVICE, "cpu"):
        p, steps, _ = run(gradient, optimizer, device, VALUES[:4])
        steps.step()
        saved = steps.state_dict()
        resumed = type(steps)([p], **OPTIMIZERS[optimizer])
        resumed.load_state_dict(saved)
        resumed.step()
        ends.append(p.tolist())
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("SGD", {"momentum": 0.9, "dampening": 0.5}), ("AdamW", {"amsgrad": True}), ("Adagrad", {})],
)
def test_other_optimizers_are_asked_once(kind: str, options: dict[str, Any]) -> None:
    """What takes no part in this is told by the host, which reads one number a step."""
    p = gradient.tensor([1.0, 2.0], device=DEVICE, requires_grad=True)
    optimizer = getattr(gradient.optim, kind)([p], lr=0.1, **options)
    scaler = GradScaler("cpu")
    fake_cupy.waits.clear()
    for i in range(2):
        scaler.scale((p * p).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert fake_cupy.waits == ["asnumpy"] * (i + 1)


def test_a_compiled_step_has_the_scaler_in_its_graphs() -> None:
    model = nn.Linear(3, 2).to(DEVICE)
    optimizer = gradient.optim.AdamW(model.parameters(), lr=0.1)
    scaler = GradScaler("cpu", init_scale=8.0, growth_interval=2)
    x = gradient.ones(4, 3, device=DEVICE)
    factors = [gradient.tensor(v, device=DEVICE) for v in VALUES]

    def step(factor: gradient.Tensor) -> gradient.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean() * factor
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    compiled = gradient.compile(step)
    fake_cupy.waits.clear()
    for factor in factors:
        compiled(factor)
    assert fake_cupy.waits == []
    assert len(compiled.signatures) == 1
    [executor] = [
        variant.executor
        for signature in compiled.signatures.values()
        for variant in signature.variants
        if variant.executor is not None
    ]
    assert executor.alone == {}
    assert len(executor.program) == 1
    assert all(math.isfinite(x) for p in model.parameters() for x in p.flatten().tolist())
    scale, good = 8.0, 0
    for value in VALUES:
        good = good + 1 if math.isfinite(value) else 0
        scale *= 0.5 if not math.isfinite(value) else 2.0 if good == 2 else 1.0
        good %= 2
    assert scaler.get_scale() == scale


@pytest.mark.parametrize(
    ("device", "scaled"), [(DEVICE, False), (DEVICE, True), ("cpu", False)], ids=str
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_compiled_step_has_masters(optimizer: str, scaled: bool, device: str) -> None:
    """To the last bit those of eager steps; on the device in one graph, whatever the rate is."""
    ends = []
    for compiled in (False, True):
        gradient.manual_seed(0)
        model = nn.Linear(3, 2).to(device, gradient.bfloat16)
        options = {**OPTIMIZERS[optimizer], "master_weights": True}
        steps = getattr(gradient.optim, optimizer)(model.parameters(), **options)
        scaler = GradScaler("cpu", init_scale=8.0, growth_interval=2, enabled=scaled)

        def step(
            x: gradient.Tensor, model: Any = model, steps: Any = steps, scaler: Any = scaler
        ) -> gradient.Tensor:
            steps.zero_grad()
            loss = model(x).square().mean()
            scaler.scale(loss).backward()
            scaler.step(steps)
            scaler.update()
            return loss.detach()

        run: Any = gradient.compile(step) if compiled else step
        for i, x in enumerate(np.random.default_rng(0).standard_normal((8, 4, 3))):
            steps.param_groups[0]["lr"] = 0.1 / (i + 1)
            x = gradient.tensor(x, dtype="bfloat16", device=device)
            fake_cupy.waits.clear()
            run(x)
            assert fake_cupy.waits == []
        states = [steps.state[p]["master_param"].tolist() for p in model.parameters()]
        ends.append((states, [p.tolist() for p in model.parameters()]))
    assert ends[0] == ends[1]
    if device == DEVICE:
        [executor] = [v.executor for s in run.signatures.values() for v in s.variants]
        assert executor.alone == {}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_more_tensors_than_a_launch_takes(optimizer: str) -> None:
    """The addresses of a launch are its arguments, of which there are 4096 bytes."""
    ends = []
    for device in (DEVICE, "cpu"):
        draw = np.random.default_rng(0)
        params = [
            gradient.tensor(draw.standard_normal(i % 5), device=device, requires_grad=True)
            for i in range(230)
        ]
        steps = getattr(gradient.optim, optimizer)(params, **OPTIMIZERS[optimizer])
        for _ in range(2):
            for p in params:
                p.grad = gradient.tensor(draw.standard_normal(p.shape), device=device)
            norm = nn.utils.clip_grad_norm_(params, 1.0)
            steps.step()
        ends.append([norm.item(), *(x for p in params for x in p.tolist())])
    np.testing.assert_allclose(*ends, rtol=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "Lion"])
def test_the_scale_and_the_parameters_move_as_in_pytorch(optimizer: str) -> None:
    torch = importlib.import_module("torch")
    ours, _, scales = run(gradient, optimizer, DEVICE, VALUES)
    theirs, _, states = run(torch, optimizer, "cpu", VALUES)
    np.testing.assert_allclose(ours.tolist(), theirs.tolist(), rtol=1e-6)
    assert [s.item() for s in scales] == [state["scale"] for state in states]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Lion", {"weight_decay": 0.1}),
        ("RMSprop", {"momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    ],
)
def test_lion_and_rmsprop_are_part_of_a_steps_graph(kind: str, options: dict[str, Any]) -> None:
    """A rate that changes from step to step is no reason to leave the graph."""
    ends = []
    for device, compiles in ((DEVICE, True), ("cpu", False)):
        gradient.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).to(device)
        optimizer = getattr(gradient.optim, kind)(model.parameters(), lr=0.1, **options)
        x = gradient.linspace(-1, 1, 12).reshape(4, 3).to(device)

        def step(
            x: gradient.Tensor, model: Any = model, optimizer: Any = optimizer
        ) -> gradient.Tensor:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        run: Any = gradient.compile(step) if compiles else step
        for i in range(6):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + i)
            run(x)
        if compiles:
            [executor] = [
                variant.executor
                for signature in run.signatures.values()
                for variant in signature.variants
                if variant.executor is not None
            ]
            assert executor.alone == {} and len(executor.program) == 1
        ends.append([p.detach().cpu().numpy() for p in model.parameters()])
    for got, expected in zip(*ends, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_of_16_bits_in_float32(dtype: str, smoothing: float, reduction: str) -> None:
    """Under autocast the loss is float32's and its gradient rounded once, as of a cast (but for the
    order of sums), without an array of the logits in float32."""
    narrow = getattr(gradient, dtype)
    drawn = (3 * gradient.randn(2, 70, 5)).to(narrow).to(DEVICE)
    target = gradient.randint(0, 70, (2, 5)).to(DEVICE)
    target[0, 1] = -100
    results = []
    for is_cast in (False, True):
        logits = drawn.clone().requires_grad_()
        given = logits.float() if is_cast else logits
        with gradient.autocast(DEVICE, narrow, enabled=not is_cast):
            loss = nn.functional.cross_entropy(
                given, target, reduction=reduction, label_smoothing=smoothing
            )
        assert loss.dtype is gradient.float32
        (1e3 * loss).sum().backward()
        results.append((loss.cpu(), logits.grad.cpu()))
    (loss, grad), (expected, expected_grad) = results
    np.testing.assert_allclose(np.array(loss.tolist()), np.array(expected.tolist()), rtol=1e-6)
    assert grad.dtype is narrow
    np.testing.assert_allclose(
        np.array(grad.tolist()), np.array(expected_grad.tolist()), rtol=EPS[dtype]
    )
    launched = gradient.backends.get(DEVICE).runtime.launched
    assert f"cross_entropy_in_float32_grad_{dtype}" in launched


def test_cross_entropy_with_weights_or_probabilities_is_cast_by_autocast() -> None:
    logits = gradient.randn(3, 5).to(gradient.bfloat16).to(DEVICE)
    classes = gradient.tensor([1, 4, 0], device=DEVICE)
    with gradient.autocast(DEVICE, gradient.bfloat16):
        for target, weight in ((classes, gradient.rand(5).to(DEVICE)), (logits.softmax(1), None)):
            assert nn.functional.cross_entropy(logits, target, weight).dtype is gradient.float32
    assert nn.functional.cross_entropy(logits, classes).dtype is gradient.bfloat16
