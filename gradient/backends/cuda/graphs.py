"""CUDA graphs: work that is captured once and queued again by one call.

What is captured keeps its addresses, so it has memory of its own: a pool that nothing else takes
from, in which the blocks that a captured program frees serve its later parts, run after run.
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
        """Bytes that the pool holds."""
        with self._runtime.on_device():
            return int(self._pool.total_bytes())

    def run(self, program: Callable[[], Result]) -> Result:
        """Run the program once on the recorder's stream and memory, after what was queued on the
        current stream and before what is queued there next. This compiles its kernels, and gives
        cuBLAS its workspace of that stream, neither of which a capture may do."""
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
        """The program's work as a graph, whose `launch()` queues it on the current stream; none is
        done yet. Raises what the program raises, CUDA's error for what cannot be captured too."""
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
        """End a capture that failed, which CUDA then says again."""
        try:
            self._stream.end_capture()
        except self._cuda.runtime.CUDARuntimeError:
            self._stream = self._runtime.new_stream(0)  # one that was not spoiled
