"""The precision of matrix products: of float32 on a GPU, and with packed weights."""

from __future__ import annotations

from collections.abc import Callable

from gradient.errors import ArgumentError, sentence

FLOAT32_CHOICES = ("highest", "high", "medium")
CHOICES = ("default", "exact")

_float32_precision = "highest"

_precision = "default"

is_recording: Callable[[], bool] = bool
"""Whether operations are recorded in this thread. `autograd.modes` puts its own here."""


def get_float32_matmul_precision() -> str:
    """Return the value of `set_float32_matmul_precision`; the default is "highest"."""
    return _float32_precision


def set_float32_matmul_precision(precision: str) -> None:
    """Choose how a GPU multiplies float32 matrices.

    Args:
        precision: "highest": in float32. "high" or "medium": a CUDA GPU's tensor cores round each
            factor to TF32, which has 10 bits of mantissa, and accumulate in float32: the error of
            an output is about 1e-3 of the size of its terms. The CPU always computes in float32.
    """
    global _float32_precision
    if precision not in FLOAT32_CHOICES:
        expected = "'highest', 'high' or 'medium'"
        raise ArgumentError(sentence("set_float32_matmul_precision", expected, repr(precision)))
    _float32_precision = precision


def allows_tf32() -> bool:
    """Whether a GPU may round the factors of float32 products to TF32."""
    return _float32_precision != "highest"


def get_quantized_matmul_precision() -> str:
    """Return the value of `set_quantized_matmul_precision`; the default is "default"."""
    return _precision


def set_quantized_matmul_precision(precision: str) -> None:
    """Choose how `F.linear` multiplies with a packed weight (q4_k, q8_0, ...).

    Args:
        precision: "default": under `no_grad` or `inference_mode`, if the backend has kernels for
            it, the input is rounded to int8 and multiplied with the weight's codes in integers.
            Each block of 32 numbers of a row is rounded to multiples of max |x| / 127. The error
            of an output is at most the sum over blocks of max |x| / 254 * sum |w|: about 0.5 % of a
            typical output, less than the error of weights in 4 to 6 bits. A block with NaN or
            infinity makes all outputs of its row NaN.
            "exact": in float32, several times slower. If gradients are recorded, as in training,
            products and gradients are always exact.
    """
    global _precision
    if precision not in CHOICES:
        raise ArgumentError(
            "set_quantized_matmul_precision: expected "
            f"{' or '.join(map(repr, CHOICES))}, got {precision!r}"
        )
    _precision = precision


def rounds_inputs() -> bool:
    """Whether a product with a packed weight may now round its input to int8."""
    return _precision == "default" and not is_recording()
