"""Attention whose scores and mask are functions of positions (Dong et al. 2024, "Flex Attention").

It is composed of other functions, so all scores are in memory at once. PyTorch calls `score_mod`
and `mask_mod` for each score; here each is called once, with all positions as tensors that
broadcast to (B, H, Q, KV). As in PyTorch, they must compute with tensors, without `if`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from gradient import functional as F
from gradient.errors import ShapeError, sentence
from gradient.tensor import Tensor
from gradient.tensor.creation import arange, full
from gradient.tensor.device import DeviceLike

__all__ = [
    "AuxOutput",
    "AuxRequest",
    "BlockMask",
    "and_masks",
    "create_block_mask",
    "create_mask",
    "flex_attention",
    "noop_mask",
    "or_masks",
]

#: (batch, head, query position, key position) -> whether the query attends to the key.
MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
#: (score, batch, head, query position, key position) -> modified score.
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class AuxRequest(NamedTuple):
    """What `flex_attention` returns besides its result."""

    lse: bool = False
    max_scores: bool = False


class AuxOutput(NamedTuple):
    """The logsumexp and the maximum of each query's scores, (B, Hq, Q); None if not requested."""

    lse: Tensor | None = None
    max_scores: Tensor | None = None


def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None = None,
    block_mask: BlockMask | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: dict[str, Any] | None = None,
    return_aux: AuxRequest | None = None,
) -> Any:
    """softmax(score_mod(scale Q K^T)) V, over the pairs of query and key that `block_mask` allows.

    query (B, Hq, Q, E), key (B, H, KV, E), value (B, H, KV, Ev) give (B, Hq, Q, Ev). H is Hq, or a
    divisor of it with `enable_gqa`. With `return_lse`, the logsumexp of the scores (B, Hq, Q) is
    returned as well, with `return_aux` an `AuxOutput`. The result is zero for a query that attends
    to no key. `scale` is 1 / sqrt(E) by default; `kernel_options` have no effect here.
    """
    name = "flex_attention"
    if not query.ndim == key.ndim == value.ndim == 4:
        got = ", ".join(str(tuple(x.shape)) for x in (query, key, value))
        raise ShapeError(sentence(name, "query, key and value of 4 dimensions", got))
    heads, own = query.shape[1], key.shape[1]
    if heads != own:
        if not enable_gqa or heads % own:
            expected = "as many heads in key as in query, or with enable_gqa a divisor"
            raise ShapeError(sentence(name, expected, f"{own} and {heads}"))
        key, value = (x.repeat_interleave(heads // own, dim=1) for x in (key, value))
    batch, steps, keys = query.shape[0], query.shape[2], key.shape[2]
    scores = query @ key.transpose(-2, -1)
    scores = scores * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    places = _places(batch, heads, steps, keys, query.device)
    if score_mod is not None:
        scores = score_mod(scores, *places)
    if block_mask is not None:
        if steps > block_mask.seq_lengths[0] or keys > block_mask.seq_lengths[1]:
            expected = f"a block_mask for {steps} queries and {keys} keys"
            raise ShapeError(sentence(name, expected, f"one for {block_mask.seq_lengths}"))
        seen = block_mask.mask_mod(*places)
        scores = scores.masked_fill(seen.logical_not(), -math.inf)
    highest = scores.detach().amax(-1, keepdim=True)
    nothing = highest == -math.inf
    weights = F.softmax(scores.masked_fill(nothing, 0.0), -1).masked_fill(nothing, 0.0)
    output = weights @ value
    if return_aux is not None:
        lse = scores.logsumexp(-1) if return_aux.lse else None
        return output, AuxOutput(lse, highest.squeeze(-1) if return_aux.max_scores else None)
    return (output, scores.logsumexp(-1)) if return_lse else output


def _places(B: int, H: int, Q: int, KV: int, device: DeviceLike) -> list[Tensor]:
    """All indices along each of four dimensions, each in its own: they broadcast."""
    return [
        arange(size, device=device).reshape([size if place == own else 1 for place in range(4)])
        for own, size in enumerate((B, H, Q, KV))
    ]


class BlockMask:
    """The keys that each query attends to, as a function of positions. See `create_block_mask`.

    Attributes:
        mask_mod: the function.
        seq_lengths: the numbers of queries and of keys.
        shape: (B, H, Q, KV).
        BLOCK_SIZE: the numbers of queries and keys in a block, for `to_dense` and `sparsity`.
    """

    def __init__(
        self, mask_mod: MaskMod, shape: tuple[int, int, int, int], block: tuple[int, int],
        device: DeviceLike,
    ) -> None:  # fmt: skip
        self.mask_mod, self.shape, self.BLOCK_SIZE = mask_mod, shape, block
        self.seq_lengths = shape[2:]
        self._device = device

    def to_dense(self) -> Tensor:
        """Return 1 for each block with an allowed pair, else 0: (B, H, blocks, blocks)."""
        mask = create_mask(self.mask_mod, *self.shape, self._device)
        rows, columns = self.BLOCK_SIZE
        below, right = (
            -size % block for size, block in zip(self.seq_lengths, self.BLOCK_SIZE, strict=True)
        )
        mask = F.pad(mask.int(), (0, right, 0, below))
        return mask.unflatten(3, (-1, columns)).unflatten(2, (-1, rows)).amax((3, 5))

    def sparsity(self) -> float:
        """Return the percentage of empty blocks."""
        return 100 * (1 - self.to_dense().double().mean().item())

    def to(self, device: DeviceLike) -> BlockMask:
        """Return the same mask, whose `to_dense` is computed on another device. (`flex_attention`
        takes a mask of any device.)"""
        return BlockMask(self.mask_mod, self.shape, self.BLOCK_SIZE, device)

    def __repr__(self) -> str:
        return f"BlockMask(shape={self.shape}, sparsity={self.sparsity():.2f}%)"


def create_block_mask(
    mask_mod: MaskMod,
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: DeviceLike = None,
    BLOCK_SIZE: int | tuple[int, int] = 128,
    _compile: bool = False,
) -> BlockMask:
    """Make the mask for `flex_attention`; B or H is None if it is the same for all batches or
    heads."""
    block = (BLOCK_SIZE, BLOCK_SIZE) if isinstance(BLOCK_SIZE, int) else BLOCK_SIZE
    return BlockMask(mask_mod, (B or 1, H or 1, Q_LEN, KV_LEN), block, device)


def create_mask(
    mod_fn: MaskMod, B: int | None, H: int | None, Q_LEN: int, KV_LEN: int,
    device: DeviceLike = None,
) -> Tensor:  # fmt: skip
    """Return the keys that each query attends to, as bools (B, H, Q_LEN, KV_LEN)."""
    shape = (B or 1, H or 1, Q_LEN, KV_LEN)
    return mod_fn(*_places(*shape, device)).expand(shape)


def noop_mask(batch: Tensor, head: Tensor, token_q: Tensor, token_kv: Tensor) -> Tensor:
    """Allow all pairs."""
    return full((), True, device=batch.device)


def and_masks(*mask_mods: MaskMod) -> MaskMod:
    """Return a mask function that allows the pairs that all given ones allow."""

    def mask(*places: Tensor) -> Tensor:
        seen = noop_mask(*places)
        for mod in mask_mods:
            seen = seen & mod(*places)
        return seen

    return mask


def or_masks(*mask_mods: MaskMod) -> MaskMod:
    """Return a mask function that allows the pairs that any given one allows."""

    def mask(*places: Tensor) -> Tensor:
        seen = noop_mask(*places).logical_not()
        for mod in mask_mods:
            seen = seen | mod(*places)
        return seen

    return mask
