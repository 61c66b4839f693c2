"""PyTorch's `torch.cuda`, as far as scripts ask it about the machine.

>>> device = "cuda" if gradient.cuda.is_available() else "cpu"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient import absent, backends
from gradient.backends.cuda import driver
from gradient.backends.registry import canonical, current
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
    """The number of the GPU that "cuda" means in this thread: 0 until `set_device`."""
    return current.index


def get_device_name(device: Any = None) -> str:
    """The name of a GPU: of the current one unless told."""
    named = "cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device
    index = int(canonical(str(named)).partition(":")[2] or 0)
    name = driver.device_name(index)
    if not name:
        raise DeviceError(f"device 'cuda:{index}': the driver sees {device_count()} GPUs")
    return name


def synchronize(device: Any = None) -> None:
    """Wait until all work queued on a GPU, the current one unless told, is done."""
    named = f"cuda:{device}" if isinstance(device, int) else device
    backends.get("cuda" if named is None else str(named)).synchronize()


def manual_seed(seed: int) -> None:
    """Seed the one default generator: random numbers do not depend on the device."""
    default_generator.manual_seed(seed)


manual_seed_all = manual_seed

__path__: list[str] = []  # a package, to `import gradient.cuda.amp`

if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
