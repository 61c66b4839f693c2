"""CUDA graphs: work that is captured once, then queued again by one call.

A graph's addresses are fixed, so it has its own memory pool. Within it, blocks that a captured
program frees are reused by its later parts, in each run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class GraphRecorder:
    """A stream and a pool for programs that are run, then captured.

    runtime    `CupyRuntime`
    """

    def __init__(self, runtime: Any):
        self._runtime = runtime
        self._cuda = runtime.xp.cuda
        self._stream = runtime.new_stream(0)
        self._pool = self._cuda.MemoryPool()

    @property
    def nbytes(self) -> int:
        """The number of bytes in the pool."""
        with self._runtime.on_device():
            return int(self._pool.total_bytes())

    def run(self, program: Callable[[], Result]) -> Result:
        """Run the program once on the recorder's stream and memory, in order with the work of the
        current stream. This compiles its kernels and allocates cuBLAS's workspace for the stream,
        which is not allowed during a capture."""
        runtime = self._runtime
        with runtime.on_device():
            current, before, after = (
                runtime.current_stream(), *(runtime.new_event(False, False) for _ in range(2))
            )  # fmt: skip
            before.record(current)
            self._stream.wait_event(before)
            with self._cuda.using_allocator(self._pool.malloc), self._stream:
                result = program()
                after.record(self._stream)
            current.wait_event(after)
        return result

    def capture(self, program: Callable[[], Result]) -> tuple[Any, Result]:
        """Capture the program's work as a graph, without running it; the graph's `launch()` queues
        it on the current stream. Errors of the program are raised, also CUDA's error for work that
        cannot be captured."""
        allocator = self._cuda.using_allocator(self._pool.malloc)
        with self._runtime.on_device(), allocator, self._stream:
            self._stream.begin_capture()
            try:
                with self._runtime.capturing():
                    result = program()
            except BaseException:
                self._abandon()
                raise
            graph = self._stream.end_capture()
        return graph, result

    def _abandon(self) -> None:
        """End a failed capture; CUDA then raises its error again."""
        try:
            self._stream.end_capture()
        except self._cuda.runtime.CUDARuntimeError:
            self._stream = self._runtime.new_stream(0)  # the old one may be invalid
