"""How products with packed weights are computed where nothing is recorded for a gradient."""

from __future__ import annotations

from collections.abc import Callable

from gradient.errors import ArgumentError

CHOICES = ("default", "exact")

_precision = "default"

is_recording: Callable[[], bool] = bool
"""Whether operations are recorded in this thread. `autograd.modes` puts its own here."""


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
