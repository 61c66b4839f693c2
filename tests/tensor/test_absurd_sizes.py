"""Sizes that no memory holds, and those that no array can have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradient
from gradient import nn
from gradient.errors import ArgumentError, GradientError, IndexOutOfRange, OutOfMemoryError
from gradient.tensor.creation import __all__ as CREATION

pytestmark = pytest.mark.cpu_only

N = 2**48
"""More numbers than a process has addresses, whatever the machine promises."""

NAMES: dict[str, Any] = {
    "t": gradient,
    "nn": nn,
    "N": N,
    "np": np,
    "x": gradient.ones(3),
    "e": gradient.ones(1).expand(N),
    "m": gradient.ones(1, 1).expand(2**24, 2**24),
}

NO_MEMORY = [
    "zeros(N)", "zeros(2**24, 2**24)", "zeros((N,))", "zeros(size=(N,))", "ones(N)", "empty(N)",
    "full((N,), 1.0)", "zeros(N, dtype=t.bfloat16)", "zeros(N, requires_grad=True)",
    "zeros(N, device='cpu')", "zeros_like(e)", "ones_like(e)", "empty_like(e)", "full_like(e, 2)",
    "arange(N)", "arange(0, 2.0**48)", "arange(0, 1, 2.0**-48)", "linspace(0, 1, N)",
    "logspace(0, 1, N)", "eye(2**24)", "eye(2**24, 2**25)", "tril_indices(2**24, 2**24)",
    "triu_indices(2**24, 2**24)", "rand(N)", "randn(2**24, 2**24)", "randint(0, 5, (N,))",
    "randperm(N)", "rand_like(e)", "randn_like(e)", "randint_like(e, 5)", "normal(0.0, 1.0, (N,))",
    "randn(N, dtype=t.float16)", "tensor(np.broadcast_to(np.float32(1), (N,)))",
    "hann_window(N)", "multinomial(x, N, replacement=True)", "fft.fftfreq(N)",
    "x.repeat(N)", "x.tile(N)", "x.repeat_interleave(N)", "x.new_zeros(N)", "x.new_full((N,), 1)",
    "x.new_tensor(e)", "x.clone().resize_(N)", "histc(x, N)", "e.contiguous()", "e.clone()",
    "bernoulli(e)", "e + 1", "e.double()", "m @ m", "cat([e, e])", "tensor([N]).bincount()",
    "nn.functional.one_hot(t.tensor([1]), N)", "nn.Linear(2**24, 2**24)",
]  # fmt: skip


@pytest.mark.parametrize("call", NO_MEMORY)
def test_there_is_no_memory_for_it(call: str) -> None:
    with pytest.raises(OutOfMemoryError, match=r"\w+: no memory left on cpu: [\d,.]+ GiB") as error:
        evaluated(call)
    name = call.partition("(")[0].rpartition(".")[2]
    if call[:1] not in "xem" and name in CREATION and name != "logspace":
        assert str(error.value).startswith(f"{name}: ")


REFUSED = {
    "zeros(2**63)": "zeros: expected size below 2**63, got (9223372036854775808,)",
    "zeros(3, 10**30)": f"zeros: expected size below 2**63, got (3, {10**30})",
    "zeros([2**64])": "zeros: expected size below 2**63, got ([18446744073709551616],)",
    "ones(size=(2**63,))": "ones: expected size below 2**63, got (9223372036854775808,)",
    "full((2**63,), 1)": "full: expected size below 2**63, got (9223372036854775808,)",
    "randn(2**63)": "randn: expected size below 2**63, got (9223372036854775808,)",
    "randint(0, 5, (2**63,))": "randint: expected size below 2**63, got (9223372036854775808,)",
    "randperm(2**63)": "randperm: expected n below 2**63, got 9223372036854775808",
    "eye(2**63)": "eye: expected n below 2**63, got 9223372036854775808",
    "linspace(0, 1, 2**63)": "linspace: expected steps below 2**63, got 9223372036854775808",
    "tril_indices(2**63, 2)": "tril_indices: expected row below 2**63, got 9223372036854775808",
    "arange(2**63)": "arange: expected ints from -2**63 to 2**63 - 1, got start 0, end 92233",
    "arange(-(2**63) - 1, 3)": "arange: expected ints from -2**63 to 2**63 - 1, got start -92233",
    "arange(1e300)": "arange: expected less than 2**63 numbers, got start 0, end 1e+300 and step 1",
    "zeros(2**62)": "zeros: the shape has 2**63 bytes or more, which no memory holds",
    "rand(2**40, 2**40)": "rand: the shape has 2**63 bytes or more, which no memory holds",
    "x.expand(2**63, 3)": "expand: a size or a number of bytes is beyond 2**63 - 1 (input (3,)",
    "x[:0].reshape(0, 2**62)": "reshape: a size or a number of bytes is beyond 2**63 - 1 (input",
    "x[:0].view(2**62, 0)": "reshape: a size or a number of bytes is beyond 2**63 - 1 (input (0,)",
    "x.reshape(0, 2**62)": "shape '[0, 4611686018427387904]' is invalid for input of size 3",
    "x.repeat(2**40, 2**40)": "expand: a size or a number of bytes is beyond 2**63 - 1 (input",
    "x.repeat_interleave(2**63)": "repeat_interleave: expected repeats below 2**63, got 9223372036",
    "x[2**63]": "index 9223372036854775808 is out of bounds for dimension 0 with size 3",
}


@pytest.mark.parametrize("call", REFUSED)
def test_sizes_beyond_those_of_arrays_are_refused_by_name(call: str) -> None:
    with pytest.raises(GradientError) as error:
        evaluated(call)
    assert str(error.value).startswith(REFUSED[call])
    assert isinstance(error.value, ArgumentError | OutOfMemoryError | RuntimeError)


def test_the_ends_of_int64_are_counted_to() -> None:
    assert gradient.arange(2**63 - 3, 2**63 - 1).tolist() == [2**63 - 3, 2**63 - 2]
    assert gradient.arange(-(2**63), -(2**63) + 2).tolist() == [-(2**63), -(2**63) + 1]
    assert gradient.arange(2**63 - 2, 2**63 - 1, 2**62).tolist() == [2**63 - 2]


def test_an_index_beyond_int64_is_out_of_range() -> None:
    for index in (2**63, -(2**63) - 1, 10**30):
        with pytest.raises(IndexOutOfRange):
            NAMES["x"][index]


def test_the_device_of_the_error_is_the_default_one() -> None:
    with gradient.device("cpu"), pytest.raises(OutOfMemoryError, match="left on cpu"):
        gradient.empty(N)


def evaluated(call: str) -> Any:
    known = call.split(".")[0].split("[")[0].split(" ")[0] in NAMES
    return eval(call if known else f"t.{call}", dict(NAMES))
