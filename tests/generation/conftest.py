"""What tests of recorded decoding steps share."""

from __future__ import annotations

from typing import Any

import pytest

from gradient.generation import replay


@pytest.fixture
def bindings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The steps that were bound."""
    made: list[Any] = []

    def counted(step: Any, tensors: Any) -> Any:
        made.append(step)
        return original(step, tensors)

    original = replay.Replay
    monkeypatch.setattr(replay, "Replay", counted)
    return made
