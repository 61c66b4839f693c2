"""How products are computed: float32 ones on a GPU, and those with packed weights."""

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
    """What `set_float32_matmul_precision` was last given: at first "highest"."""
    return _float32_precision


def set_float32_matmul_precision(precision: str) -> None:
    """Choose how a GPU multiplies float32 matrices.

    Args:
        precision: "highest": in float32. "high" or "medium": a CUDA GPU's tensor cores round each
            factor to TF32, which has 10 bits of mantissa, and add up in float32: an output is off
            by about 1e-3 of the size of its terms. On the CPU products are always in float32.
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
    """What `set_quantized_matmul_precision` was last given: at first "default"."""
    return _precision


def set_quantized_matmul_precision(precision: str) -> None:
    """Choose how `F.linear` multiplies with a packed weight (q4_k, q8_0, ...).

    Args:
        precision: "default": where the backend has kernels for it, and under `no_grad` or
            `inference_mode`, the input is rounded to int8, each 32 numbers of a row to multiples of
            a 127th of the largest magnitude among them, and multiplied with the codes of the
            weight in integers. An output is off by at most the sum over these blocks of
            max |x| / 254 * sum |w|: about 0.5 % of a typical output, which is less than
            what packing in 4 to 6 bits does to the weights. A block with NaN or infinity makes all
            outputs of its row NaN.
            "exact": in float32, several times slower. Where gradients are recorded, as in
            training, products are exact whatever is chosen here, and so are all gradients.
    """
    global _precision
    if precision not in CHOICES:
        raise ArgumentError(
            "set_quantized_matmul_precision: expected "
            f"{' or '.join(map(repr, CHOICES))}, got {precision!r}"
        )
    _precision = precision


def rounds_inputs() -> bool:
    """Whether the input of a product with a packed weight may be rounded to int8 now."""
    return _precision == "default" and not is_recording()
