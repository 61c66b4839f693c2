"""`distributed.tensor`: a group of one process divides no tensor, so none is a `DTensor`."""

from __future__ import annotations

__all__ = ["DTensor"]


class DTensor:
    """What no tensor here is an instance of."""

    def __init__(self) -> None:
        raise NotImplementedError("there are no DTensors: a group is of one process")
