"""Checks whether a run fits into memory, before any work."""

from __future__ import annotations

from gradient.dtypes.names import floating_dtype
from gradient.errors import OutOfMemoryError
from gradient.io.free_memory import available
from gradient.training.config import TrainConfig

_GIB = 1 << 30


def check_memory(config: TrainConfig) -> None:
    """Raise if a run needs more memory than is free, even with the smallest vocabulary.

    The check uses a lower bound: a refused run cannot work, an accepted one may still be too large.
    Without the check the system would end the process, or swap without end.

    Raises:
        OutOfMemoryError: the message has the needed and the free memory.
    """
    free = available()
    if config.device != "cpu" or free is None:
        return
    state, batch = state_bytes(config), batch_bytes(config)
    if state + batch > free:
        raise OutOfMemoryError(
            f"training: at least {(state + batch) / _GIB:,.1f} GiB of memory are needed, and "
            f"{free / _GIB:,.1f} GiB are free: {state / _GIB:,.1f} GiB for weights, gradients and "
            f"AdamW's state (n_layer={config.n_layer}, n_embd={config.n_embd}), "
            f"{batch / _GIB:,.1f} GiB for a step (batch_size={config.batch_size}, "
            f"accumulate={config.accumulate}, block_size={config.block_size}); make the larger "
            "of the two smaller"
        )


def state_bytes(config: TrainConfig) -> int:
    """Bytes of the matrices of a model of this shape, their gradients and AdamW's two moments."""
    width, inner = config.n_embd, config.intermediate_size or 8 * config.n_embd // 3
    kv_width = width * (config.n_kv_head or config.n_head) // config.n_head
    layer = 2 * width * (width + kv_width) + 2 * width * inner
    numbers = config.n_layer * layer + 257 * width  # 256 bytes and an end mark are embedded
    halves = floating_dtype(config.dtype).itemsize == 2 and not config.master_weights
    return numbers * (12 if halves else 16)


def batch_bytes(config: TrainConfig) -> int:
    """Bytes of a step's tokens, and of one 16-bit hidden state for each layer."""
    tokens = config.batch_size * config.block_size
    return config.accumulate * tokens * 16 + tokens * config.n_layer * config.n_embd * 2
