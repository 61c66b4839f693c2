"""When two computations of the same thing agree."""

from __future__ import annotations

import numpy as np

WIDE, NARROW = ("float64", "float32"), ("float16", "bfloat16")
EPS = {"float64": 2.3e-16, "float32": 1.2e-7, "float16": 9.8e-4, "bfloat16": 7.9e-3}
"""The distance from 1 to the next number, by dtype."""
ROUGH = {"scaled_matmul": 2.0**-12}
"""What results of a method may differ by, of the largest number: tensor cores add up products of
8-bit floats in some 14 bits. On a GPU it is twice that."""
ROUNDED = frozenset({"layer_norm_grad", "rms_norm_grad"})
"""Methods of which a GPU's kernels round the gradients for weights as they store them, which the
engine would do next."""


def agree(
    got: list[np.ndarray],
    expected: list[np.ndarray],
    dtype: str,
    method: str,
    device: str = "emulated",
) -> None:
    """Assert that arrays of `method` agree, within the rounding of `dtype`. `device` is where `got`
    was computed; by default a GPU's kernels that were run on the CPU."""
    rough = ROUGH.get(method, 0.0) * (2 if device.startswith("cuda") else 1)
    assert len(got) == len(expected)
    for i, (x, y) in enumerate(zip(got, expected, strict=True)):
        assert x.shape == y.shape, f"{method}: part {i} has shape {x.shape}, expected {y.shape}"
        rounded = i > 0 and method in ROUNDED and device != "cpu" and x.dtype == dtype
        if not rounded:
            assert x.dtype == y.dtype, f"{method}: part {i} is {x.dtype}, expected {y.dtype}"
        if x.dtype.kind in "biu":
            np.testing.assert_array_equal(x, y)
            continue
        wide: type = np.complex128 if x.dtype.kind == "c" else np.float64
        x, y = x.astype(wide), y.astype(wide)
        np.testing.assert_array_equal(np.isfinite(x), np.isfinite(y))
        scale = max(1.0, np.abs(y[np.isfinite(y)]).max(initial=0))
        # Two 16-bit results may round to neighbours; wider ones differ by the order of their sums.
        slack = 2 if dtype in NARROW else 64
        limit = max(slack * EPS[dtype], rough) * scale
        np.testing.assert_allclose(x, y, rtol=0, atol=limit, err_msg=f"{method}, part {i}")
