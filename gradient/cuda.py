"""PyTorch's `torch.cuda`, as far as scripts ask it about the machine.

>>> device = "cuda" if gradient.cuda.is_available() else "cpu"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient import absent, backends
from gradient.backends.cuda import driver
from gradient.errors import DeviceError
from gradient.tensor.generator import default_generator

__all__ = [
    "current_device",
    "device_count",
    "get_device_name",
    "is_available",
    "manual_seed",
    "manual_seed_all",
    "synchronize",
]


def is_available() -> bool:
    """Whether a "cuda" device can be used: a driver, a GPU, and CuPy."""
    if driver.device_count() == 0:
        return False
    try:
        backends.get("cuda")
    except DeviceError:
        return False
    return True


def device_count() -> int:
    """How many GPUs the driver sees."""
    return driver.device_count()


def current_device() -> int:
    """The device that "cuda" means: always the first."""
    return 0


def get_device_name(device: Any = 0) -> str:
    """The name of a GPU."""
    index = device if isinstance(device, int) else int(str(device).partition(":")[2] or 0)
    name = driver.device_name(index)
    if not name:
        raise DeviceError(f"device 'cuda:{index}': the driver sees {device_count()} GPUs")
    return name


def synchronize(device: Any = 0) -> None:
    """Wait until all work queued on a GPU is done."""
    backends.get(f"cuda:{device}" if isinstance(device, int) else str(device)).synchronize()


def manual_seed(seed: int) -> None:
    """Seed the one default generator: random numbers do not depend on the device."""
    default_generator.manual_seed(seed)


manual_seed_all = manual_seed

__path__: list[str] = []  # a package, to `import gradient.cuda.amp`

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
