"""What tests of backends share."""

from __future__ import annotations

from typing import Any

import pytest

from gradient.backends.numpy import threads


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The kernels that have been started."""
    begun: list[Any] = []
    parallel_for = threads.parallel_for

    def start(kernel: Any, *arguments: Any) -> None:
        begun.append(kernel)
        parallel_for(kernel, *arguments)

    monkeypatch.setattr(threads, "parallel_for", start)
    return begun
