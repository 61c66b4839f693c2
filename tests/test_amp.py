"""autocast: which dtype each op gives; GradScaler: skipped steps, growth and back-off."""

from __future__ import annotations

import contextlib
import importlib
import math
import threading

import numpy as np
import pytest

import gradient
import gradient.testing
from gradient import nn
from gradient.amp import GradScaler, autocast, is_autocast_enabled
from gradient.autograd.op import op_of
from gradient.errors import ArgumentError, AutogradError, TypeMismatch
from gradient.nn import functional as F
from gradient.ops.linalg import matmul


def device_type(device):
    return device.partition(":")[0]


def on(device, dtype=gradient.bfloat16, **options):
    return autocast(device_type(device), dtype=dtype, **options)


# -- autocast --


@pytest.mark.parametrize("dtype", [gradient.bfloat16, gradient.float16])
def test_products_are_narrow_and_sums_are_wide(dtype, device):
    x = gradient.randn(2, 4, 6, 6, device=device)
    weight = gradient.randn(6, 6, device=device)
    kernel = gradient.randn(3, 4, 3, 3, device=device)
    with on(device, dtype):
        assert F.linear(x, weight, weight[0]).dtype is dtype
        assert (x @ weight).dtype is dtype
        assert (weight @ weight[0]).dtype is dtype
        assert F.scaled_dot_product_attention(x, x, x, is_causal=True).dtype is dtype
        assert F.conv2d(x, kernel).dtype is dtype
        y = x @ weight
        assert F.softmax(y, dim=-1).dtype is gradient.float32
        assert y.log_softmax(-1).dtype is gradient.float32
        assert F.layer_norm(y, (6,), weight[0], weight[1]).dtype is gradient.float32
        assert F.rms_norm(y, (6,), weight[0]).dtype is gradient.float32
        logits = y.reshape(-1, 6)
        targets = gradient.zeros(len(logits), dtype=gradient.int64, device=device)
        assert F.cross_entropy(logits, targets).dtype is gradient.float32
        # As they come:
        assert (y + y).dtype is dtype and y.relu().dtype is dtype
        assert (x + y).dtype is gradient.float32
        wide = weight.double()
        assert (wide @ wide).dtype is gradient.float64
    assert (x @ weight).dtype is gradient.float32


def test_threads_call_one_function_that_is_under_autocast():
    entered, inside, done = (threading.Event() for _ in range(3))

    @autocast("cpu", enabled=False)
    def waits(mine: threading.Event, other: threading.Event) -> None:
        mine.set()
        other.wait()

    found = []

    def run() -> None:
        waits(entered, inside)  # ends while the other thread is in it
        found.append(is_autocast_enabled("cpu"))
        done.set()

    thread = threading.Thread(target=run)
    with autocast("cpu"):
        thread.start()
        entered.wait()
        waits(inside, done)
        assert is_autocast_enabled("cpu")
    thread.join()
    assert found == [False]


def test_gradients_come_back_in_the_parameter_s_dtype(device):
    layer = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3))
    layer.to(device)
    x = gradient.randn(5, 8, device=device)
    F.cross_entropy(layer(x), gradient.tensor([0, 1, 2, 0, 1], device=device)).backward()
    expected = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    with on(device):
        loss = F.cross_entropy(layer(x), gradient.tensor([0, 1, 2, 0, 1], device=device))
    loss.backward()
    for p, grad in zip(layer.parameters(), expected, strict=True):
        assert p.grad.dtype is gradient.float32
        assert (p.grad - grad).norm().item() < 0.03 * grad.norm().item()


def test_blocks_nest_and_end(device):
    x = gradient.ones(2, 2, device=device)
    kind = device_type(device)
    other = "cpu" if kind != "cpu" else "cuda"
    block = on(device)
    with block, block:
        assert is_autocast_enabled(kind)
        with on(device, enabled=False):
            assert (x @ x).dtype is gradient.float32 and not is_autocast_enabled(kind)
        with autocast(other):
            assert (x @ x).dtype is gradient.bfloat16 and is_autocast_enabled(other)
        with on(device, gradient.float16):
            assert (x @ x).dtype is gradient.float16
        with pytest.raises(KeyError), on(device, gradient.float16):
            raise KeyError
        assert (x @ x).dtype is gradient.bfloat16
    with autocast(other):
        assert (x @ x).dtype is gradient.float32
    assert not is_autocast_enabled(kind)

    @block
    def product():
        return x @ x

    assert product().dtype is gradient.bfloat16 and (x @ x).dtype is gradient.float32


def test_autocast_is_of_one_thread(device):
    x = gradient.ones(2, 2, device=device)
    looked_at = op_of(matmul).checked
    before, dtypes = set(looked_at), []

    def other():
        dtypes.append((x @ x).dtype)
        with on(device, gradient.float16):
            dtypes.append((x @ x).dtype)

    with on(device):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        dtypes.append((x @ x).dtype)
        assert looked_at > before
    assert dtypes == [gradient.float32, gradient.float16, gradient.bfloat16]
    assert looked_at == before  # while it is off no op looks further than it did


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_are_those_of_explicit_casts(device, create_graph):
    x, w = (gradient.randn(4, 4, device=device, requires_grad=True) for _ in "xw")

    def narrow(t):
        return t.to(gradient.bfloat16)

    def gradients(y):
        first = gradient.autograd.grad(y.float().pow(2).sum(), (x, w), create_graph=create_graph)
        if not create_graph:
            return first
        return gradient.autograd.grad(sum(g.pow(2).sum() for g in first), (x, w))

    expected = gradients(F.softmax((narrow(x) @ narrow(w)).float(), -1))
    with on(device):
        y = F.softmax(x @ w, -1)
    for got, want in zip(gradients(y), expected, strict=True):
        assert got.dtype is gradient.float32
        gradient.testing.assert_close(got, want, rtol=2e-2, atol=1e-3)


def test_losses_are_of_the_float32_of_their_inputs(device):
    x = gradient.tensor([1000.0, 1001.0], dtype=gradient.float16, device=device)
    y = gradient.tensor([1000.25, 1001.25], device=device)
    with on(device, gradient.float16):
        assert F.mse_loss(x, y).item() == 0.0625
        loss = F.l1_loss(x, target=x * 3, reduction="sum")
    assert loss.dtype is gradient.float32 and loss.item() == 4003.0


def test_what_autocast_does_not_take(device):
    with pytest.warns(UserWarning, match="expected dtype float16 or bfloat16, got .*float32"):
        block = on(device, gradient.float32)
    x = gradient.ones(2, 2, device=device)
    with block:
        assert (x @ x).dtype is gradient.float32
    with pytest.raises(TypeMismatch, match="expected a device type such as 'cuda', but got 3"):
        autocast(3)


def test_a_checkpointed_segment_is_run_again_as_it_was(device):
    layer = nn.Linear(4, 4).to(device)
    seen = []

    def segment(x):
        y = layer(x)
        seen.append(y.dtype)
        return y.float().relu()

    with on(device):
        y = gradient.utils.checkpoint.checkpoint(
            segment, gradient.randn(2, 4, device=device), use_reentrant=False
        )
    y.sum().backward()
    assert seen == [gradient.bfloat16, gradient.bfloat16]


def test_training_with_both(device):
    gradient.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1)).to(device)
    optimizer = gradient.optim.AdamW(model.parameters(), lr=0.02)
    scaler = GradScaler("cpu", init_scale=2.0**10)
    x = gradient.randn(64, 2, device=device)
    y = x[:, :1] * x[:, 1:]
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        with on(device, gradient.float16):
            loss = ((model(x) - y) ** 2).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parity
def test_autocast_as_in_pytorch():
    """A block of a transformer in bfloat16: dtypes, values and gradients."""
    torch = importlib.import_module("torch")
    rng = np.random.default_rng(0)
    values = [
        rng.standard_normal(s).astype(np.float32) for s in [(2, 5, 8), (24, 8), (24,), (8, 8)]
    ]
    results = []
    exact = {"enabled": False}
    for lib, options in ((torch, exact), (torch, {}), (gradient, {})):
        x, w_in, b_in, w_out = (lib.tensor(v) for v in values)
        for t in (x, w_in, b_in, w_out):
            t.requires_grad_()
        functional = lib.nn.functional
        with lib.amp.autocast("cpu", dtype=lib.bfloat16, **options):
            q, k, v = functional.linear(x, w_in, b_in).view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
            heads = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            y = x + heads.transpose(1, 2).reshape(2, 5, 8) @ w_out
        if options is not exact:
            assert (q.dtype, heads.dtype, y.dtype) == (lib.bfloat16, lib.bfloat16, lib.float32)
        y.square().mean().backward()
        assert all(t.grad.dtype == lib.float32 for t in (x, w_in, b_in, w_out))
        results.append([t.detach().numpy() for t in (y, x.grad, w_in.grad, b_in.grad, w_out.grad)])
    for want, theirs, ours in zip(*results, strict=True):
        error, their_error = np.linalg.norm(ours - want), np.linalg.norm(theirs - want)
        assert error < max(2 * their_error, 0.01 * np.linalg.norm(want))


# -- GradScaler --


def make(device):
    p = gradient.tensor([1.0, 2.0], device=device, requires_grad=True)
    return p, gradient.optim.SGD([p], lr=0.1)


def test_a_scaled_step_is_the_plain_step(device):
    p, optimizer = make(device)
    scaler = GradScaler("cpu", init_scale=1024.0)
    loss = (p * p).sum()
    scaler.scale(loss).backward()
    assert p.grad.tolist() == [2048.0, 4096.0]
    scaler.step(optimizer)
    scaler.update()
    assert p.grad.tolist() == [2.0, 4.0]
    np.testing.assert_allclose(p.tolist(), [0.8, 1.6], rtol=1e-6)


def test_unscaled_by_hand_is_not_unscaled_twice(device):
    p, optimizer = make(device)
    scaler = GradScaler("cpu", init_scale=4.0)
    scaler.scale((p * p).sum()).backward()
    scaler.unscale_(optimizer)
    assert p.grad.tolist() == [2.0, 4.0]
    scaler.step(optimizer)
    np.testing.assert_allclose(p.tolist(), [0.8, 1.6], rtol=1e-6)
    with pytest.raises(AutogradError, match="already called since the last update"):
        scaler.step(optimizer)
    with pytest.raises(AutogradError, match="called after step"):
        scaler.unscale_(optimizer)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_an_overflow_skips_the_step_and_lowers_the_scale(bad, device):
    p, optimizer = make(device)
    scaler = GradScaler("cpu", init_scale=8.0, growth_interval=2)
    scales = []
    for value in (1.0, bad, 1.0, 1.0, 1.0):
        optimizer.zero_grad()
        before = p.tolist()
        scaler.scale((p * value).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert (p.tolist() == before) == (value is bad)
        scales.append(scaler.get_scale())
    assert scales == [8.0, 4.0, 4.0, 8.0, 8.0]


def test_several_losses_and_optimizers(device):
    (p, first), (q, second) = make(device), make(device)
    scaler = GradScaler("cpu", init_scale=2.0)
    scaled = scaler.scale([(p * 3).sum(), ((q * 5).sum(), (q * 7).sum())])
    assert isinstance(scaled, list) and isinstance(scaled[1], tuple)
    (scaled[0] + scaled[1][0] + scaled[1][1]).backward()
    q.grad[0] = math.inf
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert p.grad.tolist() == [3.0, 3.0]
    np.testing.assert_allclose(p.tolist(), [0.7, 1.7], rtol=1e-6)
    assert q.tolist() == [1.0, 2.0] and scaler.get_scale() == 1.0


def test_disabled_does_nothing(device):
    p, optimizer = make(device)
    scaler = GradScaler(enabled=False)
    loss = p.sum()
    assert scaler.scale(loss) is loss
    loss.backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 1.0 and scaler.state_dict() == {} and not scaler.is_enabled()
    np.testing.assert_allclose(p.tolist(), [0.9, 1.9], rtol=1e-6)


def test_state_continues(device):
    p, optimizer = make(device)
    scaler = GradScaler("cpu", init_scale=8.0, growth_interval=3)
    for _ in range(2):
        scaler.scale(p.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    resumed = GradScaler("cpu")
    resumed.load_state_dict(scaler.state_dict())
    resumed.scale(p.sum()).backward()
    resumed.step(optimizer)
    resumed.update()
    assert resumed.get_scale() == 16.0
    with pytest.raises(AutogradError, match="saved from a disabled GradScaler"):
        resumed.load_state_dict({})


def test_misuse(device):
    p, optimizer = make(device)
    with pytest.raises(ArgumentError, match="growth_factor must be a number above 1, got 1.0"):
        GradScaler("cpu", growth_factor=1.0)
    with pytest.raises(ArgumentError, match="backoff_factor must be a number below 1, got 1.0"):
        GradScaler("cpu", backoff_factor=1.0)
    scaler = GradScaler("cpu")
    with pytest.raises(AutogradError, match="no loss was scaled yet"):
        scaler.step(optimizer)
    with pytest.raises(TypeMismatch, match="expected a Tensor or an iterable of Tensors"):
        scaler.scale(3.0)
    with pytest.raises(TypeMismatch, match="expected a Tensor or an iterable of Tensors"):
        scaler.scale("loss")  # an iterable of itself
    scaler.scale(p.sum())
    with pytest.raises(AutogradError, match="no parameter of this optimizer has a gradient"):
        scaler.step(optimizer)
    with pytest.raises(AutogradError, match="closures are not supported"):
        scaler.step(optimizer, closure=lambda: None)
    half = gradient.ones(2, dtype=gradient.float16, device=device, requires_grad=True)
    half.grad = gradient.ones_like(half).detach()
    with pytest.raises(ArgumentError, match="some gradients are float16"):
        GradScaler.step(scaler, gradient.optim.SGD([half], lr=0.1))


@pytest.mark.parity
@pytest.mark.cpu_only
@pytest.mark.skipif(gradient.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.filterwarnings("ignore:.torch.cuda.amp.GradScaler.args:FutureWarning")
@pytest.mark.parametrize(
    ("make", "warns"),
    [
        (lambda lib: lib.amp.GradScaler(), True),
        (lambda lib: lib.amp.GradScaler("cuda", 4.0), True),
        (lambda lib: lib.amp.GradScaler(growth_factor=0.5, backoff_factor=2.0), True),
        (lambda lib: lib.cuda.amp.GradScaler(4.0), True),
        (lambda lib: lib.GradScaler(), True),
        (lambda lib: lib.amp.GradScaler(enabled=False), False),
        (lambda lib: lib.cuda.amp.GradScaler(enabled=False), False),
        (lambda lib: lib.amp.GradScaler("cpu"), False),
        (lambda lib: lib.amp.GradScaler("cpu", 4.0, growth_interval=1), False),
    ],
)
def test_without_cuda_as_in_pytorch(make, warns):
    """Whether it warns, is enabled, scales, steps, and has a state."""
    results = []
    for lib in (importlib.import_module("torch"), gradient):
        with pytest.warns(UserWarning) if warns else contextlib.nullcontext() as seen:
            scaler = make(lib)
        rows = [[w.category for w in seen if w.category is not FutureWarning] if warns else []]
        p = lib.tensor([1.0, 2.0], requires_grad=True)
        optimizer = lib.optim.SGD([p], lr=0.125)
        for factor in (1.0, math.inf, 1.0):
            optimizer.zero_grad()
            loss = (p * factor).sum()
            scaled = scaler.scale(loss)
            rows.append([scaler.is_enabled(), scaled is loss, scaled.item()])
            scaled.backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            rows.append([p.tolist(), scaler.get_scale(), scaler.state_dict()])
        rows.append(scaler.load_state_dict({"scale": 2.0} if warns else rows[-1][-1]))
        results.append(rows)
    assert str(results[0]) == str(results[1])  # by their text, in which NaN is equal


@pytest.mark.parity
def test_the_scale_moves_as_in_pytorch():
    torch = importlib.import_module("torch")
    values = [1.0, 1.0, math.inf, 1.0, 1.0, 1.0, 1.0, 1.0, math.nan, math.nan, 1.0]
    histories = []
    for lib, scaler in (
        (gradient, GradScaler("cpu", 64.0, 3.0, 0.25, 2)),
        (torch, torch.amp.GradScaler("cpu", 64.0, 3.0, 0.25, 2)),
    ):
        p = lib.tensor([1.0, 2.0], requires_grad=True)
        optimizer = lib.optim.SGD([p], lr=0.125)
        rows = []
        for i, value in enumerate(values):
            optimizer.zero_grad()
            scaler.scale((p * value).sum()).backward()
            if i % 2:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update(7.0 if i == 5 else None)
            rows.append([scaler.get_scale(), *p.tolist(), scaler.state_dict()["_growth_tracker"]])
        histories.append(rows)
    assert histories[0] == histories[1]


@pytest.mark.parametrize("wrap", [lambda f: f, gradient.compile], ids=["eager", "compiled"])
def test_convolutions_with_a_bias_follow_one_another(device, wrap):
    gradient.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding="same"),
        nn.ConvTranspose2d(4, 4, 2, 2), nn.ConvTranspose2d(4, 2, 1), nn.Conv2d(2, 1, 1),
    ).to(device)  # fmt: skip

    def step(x):
        with on(device):
            out = model(x)
        model.zero_grad()
        out.float().square().mean().backward()
        return out.detach()

    run = wrap(step)
    for _ in range(4):
        out = run(gradient.randn(2, 3, 8, 8, device=device))
    assert out.dtype is gradient.bfloat16 and out.shape == (2, 1, 8, 8)
    assert {p.grad.dtype for p in model.parameters()} == {gradient.float32}
