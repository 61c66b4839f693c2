"""`nn.attention`: which kernel attention shall use, a choice that each backend makes by itself."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gradient.errors import ArgumentError, TypeMismatch, sentence

__all__ = ["SDPBackend", "sdp_kernel", "sdpa_kernel"]


class SDPBackend(enum.IntEnum):
    """PyTorch's ways to compute scaled_dot_product_attention; all have one result."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


@contextmanager
def sdpa_kernel(
    backends: Sequence[SDPBackend] | SDPBackend, set_priority: bool = False
) -> Iterator[None]:
    """`with sdpa_kernel(SDPBackend.MATH): ...` changes nothing: the kernel follows from shapes,
    dtypes and the device."""
    chosen = [backends] if isinstance(backends, SDPBackend) else backends
    if not isinstance(chosen, (list, tuple)) or not all(
        isinstance(backend, SDPBackend) for backend in chosen
    ):
        expected = "an SDPBackend or a list of them"
        raise TypeMismatch(sentence("sdpa_kernel", expected, repr(backends)))
    if not chosen:
        raise ArgumentError(sentence("sdpa_kernel", "at least one SDPBackend", "none"))
    yield


@contextmanager
def sdp_kernel(
    enable_flash: bool = True,
    enable_math: bool = True,
    enable_mem_efficient: bool = True,
    enable_cudnn: bool = True,
) -> Iterator[None]:
    """The older `sdpa_kernel` (`torch.backends.cuda.sdp_kernel`), which changes nothing either."""
    if not (enable_flash or enable_math or enable_mem_efficient or enable_cudnn):
        raise ArgumentError(sentence("sdp_kernel", "at least one kernel enabled", "none"))
    yield


_DEFAULT_SPARSE_BLOCK_SIZE = 128
"""The numbers of queries and keys in a block of a `BlockMask`, if none are given."""
