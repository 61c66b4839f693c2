"""Sizes: what is cut from, added to or multiplied with a Size, beside PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

import gradient

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

CASES: dict[str, Any] = {
    "slice": lambda s: s[1:],
    "slice of no elements": lambda s: s[5:],
    "backwards": lambda s: s[::-1],
    "index": lambda s: s[-1],
    "plus a tuple": lambda s: s[:-1] + (7,),
    "a tuple plus": lambda s: (7,) + s,
    "plus a Size": lambda s: s + s,
    "times": lambda s: s * 2,
    "times, reversed": lambda s: 2 * s,
    "numel of a slice": lambda s: s[1:].numel(),
    "numel of nothing": lambda s: s[:0].numel(),
    "unpacked": lambda s: (*s[:2], 1),
    "of a sparse tensor": lambda s: s,
}


@pytest.mark.parametrize("name", CASES)
def test_parts_of_sizes(name: str) -> None:
    def run(t: Any) -> Any:
        x = t.zeros(2, 3, 4)
        return CASES[name]((x.to_sparse() if "sparse" in name else x).shape)

    ours, theirs = run(gradient), run(torch)
    assert ours == theirs
    assert isinstance(ours, gradient.Size) == isinstance(theirs, torch.Size)
    assert repr(ours).removeprefix("gradient.") == repr(theirs).removeprefix("torch.")


@pytest.mark.parametrize(
    "slip", [lambda s: s + [1], lambda s: s + ("a",), lambda s: s * 1.5, lambda s: s["a"]]
)
def test_what_a_size_refuses(slip: Any) -> None:
    for t in (gradient, torch):
        with pytest.raises(TypeError):
            slip(t.zeros(2, 3).shape)
