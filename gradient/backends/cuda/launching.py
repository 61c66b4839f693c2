"""Launch kernels by an array's dtype, often with a block for each row."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gradient import dtypes
from gradient.backends.array_api import Array
from gradient.errors import DeviceError

FLOATS = {
    d.numpy: d.name for d in (dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16)
}
"""NumPy's dtypes and the names that end a kernel's name."""
MAX_BLOCK, MAX_GRID = 1024, 65535
"""Threads of a block, and blocks along the second and the third axis of a grid."""
EACH = 256
"""Threads of a block where each works on one number."""
LOAD = 16
"""Bytes that a thread loads at a time, where arrays are aligned so."""
PER_THREAD = 8
"""Numbers of a row that a thread works on, where the row allows it."""

HELD, MAX_HELD = 4, 512
"""Loads of a row that a thread keeps in registers, at most, and threads of a block that do so."""
MANY_ROWS = 512
"""Rows that keep a GPU busy with few threads for each."""


def computed_in(x: Array) -> Any:
    """The type in which kernels compute: float64 for float64, else float32."""
    return np.float64 if x.dtype == np.float64 else np.float32


@functools.lru_cache(4096)
def block_of(columns: int) -> int:
    """The number of threads for a row: a power of two, at least a warp."""
    threads = 32
    while threads < MAX_BLOCK and threads * PER_THREAD < columns:
        threads *= 2
    return threads


NUMBER = np.dtype([("value", np.float64), ("at", np.int64)])
COUNT = np.dtype([("value", np.int64), ("at", np.int64)])
"""`Number` and `Count` of `numbers.cuh`."""

DIVISOR = np.dtype([(name, np.uint32) for name in ("by", "factor", "shift")])
"""`Divisor` of `numbers.cuh`."""


def divisor(n: int) -> tuple[int, int, int]:
    """The constants by which kernels divide by n, 1 <= n < 2**31 (Granlund and Montgomery 1994,
    "Division by invariant integers using multiplication")."""
    shift = (n - 1).bit_length()
    return n, ((1 << 32) * ((1 << shift) - n)) // n + 1, shift


@functools.lru_cache(4096)
def _threads_that_hold(size: int, columns: int, itemsize: int) -> int | None:
    each = LOAD // itemsize
    loads, rows = columns // each, size // columns
    if columns % each or loads > MAX_HELD * HELD:
        return None
    of_thread = HELD if rows >= MANY_ROWS else 1
    return min(-(-loads // (32 * of_thread)) * 32, MAX_HELD)


class KernelLauncher:
    """The methods of the backend that all families of kernels share."""

    runtime: Any
    empty: Any
    astype: Any
    index_fault: Any
    """Gives one int32 on the device, for a kernel to set when it meets an index out of range."""

    def has_kernel(self, *arrays: Array | None) -> bool:
        """Whether kernels take these: non-empty float arrays of one dtype."""
        first = arrays[0]
        assert first is not None
        dtype = first.dtype
        if dtype not in FLOATS or not first.size:
            return False
        for x in arrays[1:]:  # noqa: SIM110 (a generator takes several times as long)
            if x is not None and x.dtype != dtype:
                return False
        return True

    def contiguous(self, x: Array) -> Array:
        return self.runtime.xp.ascontiguousarray(x)

    def optional(self, x: Array | None) -> Array | None:
        """An argument that may be absent: kernels get a null pointer for None."""
        return None if x is None else self.contiguous(x)

    def statistic(self, x: Array, number: Any) -> Array:
        """A statistic of a forward kernel, in the dtype that the gradient's kernel needs."""
        return self.contiguous(self.astype(x, np.dtype(number)))

    def number_argument(self, x: Any) -> np.ndarray:
        """An argument by value: a number of the host, or the address of one on the device."""
        return self._by_value(NUMBER, x)

    def count_argument(self, x: Any) -> np.ndarray:
        """The same for an integer of up to 64 bits."""
        return self._by_value(COUNT, np.uint64(x % 2**64).view(np.int64) if type(x) is int else x)

    def without_device_numbers(self, *numbers: Any) -> None:
        """Refuse numbers on the device, for a default that would round differently with them: a
        plan then passes the host's numbers, outside of its graphs."""
        if not all(isinstance(x, (int, float)) for x in numbers):
            raise DeviceError("takes a number, for no kernel takes these arrays")

    def _by_value(self, kind: np.dtype, x: Any) -> np.ndarray:
        told = np.zeros(1, kind)
        if isinstance(x, (int, float, np.generic)):
            told["value"] = x
        else:
            told["at"] = self.runtime.address(x)
        return told

    def launch(
        self,
        family: str,
        kernel: str,
        x: Array,
        grid: tuple[int, ...],
        block: int,
        *arguments: Any,
        shared: int = 0,
        early: bool = False,
    ) -> None:
        """Queue the kernel for x's dtype."""
        self.runtime.launch(
            family, kernel, FLOATS[x.dtype], grid, block, *arguments, shared=shared, early=early
        )

    def launch_rows(
        self, family: str, kernel: str, x: Array, *arrays: Array | None, after: tuple[Any, ...] = ()
    ) -> None:
        """Queue the kernel for x's dtype with a block for each row of x. Its arguments are the
        arrays, the number of columns, and `after`."""
        columns = x.shape[-1]
        rows, threads = x.size // columns, block_of(columns)
        if rows >= MANY_ROWS:
            threads = min(threads, MAX_HELD)  # so that several blocks overlap waits for memory
        self.launch(family, kernel, x, (rows,), threads, *arrays, columns, *after)

    def launch_held_rows(
        self, family: str, kernel: str, x: Array, *arrays: Array | None, after: tuple[Any, ...] = ()
    ) -> None:
        """The same by the kernel that keeps rows in registers, if possible."""
        threads = self.threads_that_hold(x, *arrays)
        if threads is None:
            self.launch_rows(family, kernel, x, *arrays, after=after)
            return
        columns = x.shape[-1]
        self.launch(
            family, f"{kernel}_held", x, (x.size // columns,), threads,
            *arrays, columns, *after,
        )  # fmt: skip

    def threads_that_hold(self, x: Array, *arrays: Array | None) -> int | None:
        """The threads of a block that keeps a row of x in registers; None if it cannot: rows and
        arrays must be aligned to 16 bytes, and rows not too long."""
        threads = _threads_that_hold(x.size, x.shape[-1], x.itemsize)
        return threads if threads is not None and self.begin_at_loads(*arrays) else None

    def begin_at_loads(self, *arrays: Array | None) -> bool:
        """Whether all arrays (None is ignored) are aligned to 16 bytes."""
        places, address = 0, self.runtime.address
        for x in arrays:
            if x is not None:
                places |= address(x)
        return places % LOAD == 0

    def launch_numbers(self, family: str, kernel: str, x: Array, *arguments: Any) -> None:
        """Queue the kernel for x's dtype with a thread for each number of x."""
        self.launch(family, kernel, x, (-(-x.size // EACH),), EACH, *arguments)
