"""The contract of a backend: composed definitions need the required methods alone, and streams of
random numbers are the published ones everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from gradient import backends
from gradient.backends import registry
from gradient.backends.base import Backend
from gradient.errors import BackendError, DeviceError
from support.array_backends import PROOFS, HandleBackend
from support.backend_table import BARE, CASES, Draw, call, case_of, leaves


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("method", CASES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_handles_suffice(method: str, dtype: str) -> None:
    """Arrays with a shape, a dtype and operators alone give the same bits as NumPy's."""
    for case, arguments in enumerate(CASES[method]):
        expected = call(BARE, method, arguments(Draw(dtype)))
        drawn = [x for x in leaves(arguments(Draw(dtype))) if hasattr(x, "dtype")]
        is_complex = any(x.dtype.kind == "c" for x in (*expected, *drawn))
        for place in ("handle", "process"):
            with case_of(method, case):
                if place == "process" and is_complex:
                    with pytest.raises(BackendError, match="has no complex"):
                        call(backends.get(place), method, arguments(Draw(dtype)))
                    continue
                got = call(backends.get(place), method, arguments(Draw(dtype)))
                assert len(got) == len(expected)
                for x, y in zip(got, expected, strict=True):
                    assert (x.shape, x.dtype) == (y.shape, y.dtype)
                    np.testing.assert_array_equal(x.astype(np.float64), y.astype(np.float64))


def test_a_missing_method_is_named() -> None:
    class Half(Backend):
        name = "half"

    with pytest.raises(BackendError) as caught:
        Half().exp(1.0)
    assert str(caught.value) == "backend 'half' does not supply the required method 'exp'"


def test_the_same_device_is_the_same_backend() -> None:
    assert backends.get("cpu") is backends.get("cpu:0")
    assert isinstance(backends.get("handle"), HandleBackend)
    assert "cpu" in backends.available()


@pytest.mark.parametrize("device", ["gpu", "cuda:one", "cpu:1", ""])
def test_an_unknown_device_is_an_error(device: str) -> None:
    with pytest.raises(DeviceError):
        backends.get(device)


# The known answers that come with the authors' code (Random123, kat_vectors: philox4x32 10).
KNOWN = [
    (0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
]


@pytest.mark.parametrize("place", ["device", *PROOFS])
@pytest.mark.parametrize(("key", "block", "words"), KNOWN)
def test_philox_known_answers(key: int, block: int, words: str, place: str, device: str) -> None:
    backend = backends.get(device if place == "device" else place)
    drawn = backend.to_numpy(backend.philox(key, block, 1))
    assert [f"{word:08x}" for word in drawn] == words.split()


def test_a_stream_is_the_same_in_parts(device: str) -> None:
    backend = backends.get(device)
    whole = backend.to_numpy(backend.philox(3, 10, 6000))
    parts = [
        backend.to_numpy(backend.philox(3, at, n)) for at, n in ((10, 1), (11, 5000), (5011, 999))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_another_device_type_leaves_the_backends_that_there_are() -> None:
    before = backends.get("cpu")
    backends.register("one_more", lambda index: HandleBackend())
    try:
        assert backends.get("cpu") is before
        first = backends.get("one_more")
        backends.register("one_more", lambda index: HandleBackend())
        assert backends.get("one_more") is not first
        assert backends.get("cpu") is before
    finally:
        del registry._factories["one_more"], registry._made["one_more"]
