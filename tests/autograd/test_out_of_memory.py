"""What an op says that finds no memory."""

from __future__ import annotations

import inspect
import weakref
from typing import Any

import numpy as np
import pytest

import gradient
from gradient import backends, nn
from gradient.autograd.out_of_memory import _described
from gradient.errors import OutOfMemoryError
from gradient.ops import shape
from support import fake_cupy, fake_device

pytestmark = pytest.mark.cpu_only


def test_the_largest_tensors_are_listed_with_the_lines_that_made_them() -> None:
    leaf = gradient.zeros(1 << 22, requires_grad=True)
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    made = (leaf * 2).reshape(2, -1)[0].exp()
    plain = gradient.zeros(3, 1 << 20, dtype=gradient.float64)
    view = plain[1]
    with pytest.raises(OutOfMemoryError) as caught:
        leaf[0].expand(1 << 48).clone()
    text = str(caught.value)
    assert text.startswith("clone: no memory left on cpu: ")
    assert "24.0 MiB  (3, 1048576) float64, outside the graph" in text
    assert "16.0 MiB  (4194304,) float32, a leaf with requires_grad" in text
    assert f"8.0 MiB  (2097152,) float32, made by exp at {__file__}:{line}" in text
    assert text.index("24.0 MiB") < text.index("8.0 MiB  (2097152,)")
    assert "(1048576,) float64" not in text  # a view has no memory of its own
    assert isinstance(caught.value, (RuntimeError, MemoryError))
    assert made.shape[0] == 2 * view.shape[0]


def test_one_of_several_results_has_the_line_of_the_call() -> None:
    leaf = gradient.eye(3, requires_grad=True)

    def method() -> Any:  # ops with options are called by methods
        return shape.split(leaf, indices=[(slice(0, 2),)], axis=0)

    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    (part,) = method()
    assert _described(part) == f"(2, 3) float32, made by split at {__file__}:{line}"


def test_a_view_has_the_line_of_the_op_that_made_its_memory() -> None:
    leaf = gradient.eye(3, requires_grad=True)
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    made = leaf * 2
    view = made.view(9)[1:]
    assert _described(view) == f"(8,) float32, made by mul at {__file__}:{line}"
    assert _described(leaf[1:]) == "(2, 3) float32, made by index"


def test_a_full_gpu_is_told_wherever_it_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """By CuPy's error, which comes after it has emptied its cache and tried again."""
    message = "Out of memory allocating 4,096 bytes (allocated so far: 512 bytes)."

    def full(*_: object, **__: object) -> None:
        raise MemoryError(message)

    with fake_device.as_cuda():
        held = gradient.zeros(1 << 10, device="cuda", requires_grad=True)
        product = held * 3
        host = gradient.ones(4)
        with monkeypatch.context() as patch:
            patch.setattr(fake_cupy, "fresh", full)
            for name, call in (
                ("exp", lambda: held.exp()),
                ("to", lambda: host.to("cuda")),
                ("to", lambda: nn.Linear(2, 2).to("cuda", non_blocking=True)),
            ):
                with pytest.raises(OutOfMemoryError) as caught:
                    call()
                text = str(caught.value)
                assert text.startswith(f"{name}: no memory left on cuda:0: {message}")
                assert "2 tensors are alive there, with 8.0 KiB; the largest:" in text
                assert "4.0 KiB  (1024,) float32, a leaf with requires_grad" in text
                assert "4.0 KiB  (1024,) float32, made by mul at" in text
        assert (product / 3).sum().item() == 0


def test_a_dead_proxy_in_the_process_is_passed_over() -> None:
    proxies = [weakref.proxy(gradient.ones(1)), weakref.proxy(type("Gone", (), {})())]
    with pytest.raises(OutOfMemoryError, match="clone: no memory left"):
        gradient.ones(1).expand(1 << 48).clone()
    assert len(proxies) == 2


def test_the_names_of_the_error() -> None:
    assert gradient.cuda.OutOfMemoryError is OutOfMemoryError  # type: ignore[attr-defined]
    assert issubclass(OutOfMemoryError, RuntimeError) and issubclass(OutOfMemoryError, MemoryError)


def test_a_failure_of_every_kind_of_op_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    be = backends.get("cpu")

    def full(*_: object) -> None:
        raise MemoryError("Unable to allocate 7.00 TiB")

    x = gradient.ones(2, 2)
    for name, call in (
        ("exp", lambda: x.exp()), ("matmul", lambda: x @ x), ("softmax", lambda: x.softmax(-1)),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(type(be), name, full)
            with pytest.raises(OutOfMemoryError, match=f"{name}: no memory left on cpu: Unable"):
                call()
    np.testing.assert_array_equal((x @ x).numpy(), np.full((2, 2), 2.0))
