"""Switches of PyTorch's kernels (`backends.cudnn.benchmark`), which change nothing here."""

__all__ = [
    "allow_fp16_reduced_precision_reduction",
    "allow_tf32",
    "benchmark",
    "deterministic",
    "enabled",
    "is_available",
    "version",
]

allow_fp16_reduced_precision_reduction = allow_tf32 = benchmark = enabled = False
deterministic = True
never = False


def is_available() -> bool:
    return False


def version() -> None:
    """None: no such library is used."""
