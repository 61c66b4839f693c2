"""A model's weights under the names and in the layout of checkpoints, as its class declares
them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gradient.models.pretrained import PretrainedModel
from gradient.tensor import Tensor


def split_weight(model: PretrainedModel, name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield a checkpoint's tensor, or, if `model.split` lists it, views of its parts, by name.

    One whose shape cannot be split stays as it is, for the error that lists what does not fit.
    """
    match = next((m for pattern in model.split if (m := re.search(pattern, name))), None)
    names = model.split[match.re.pattern] if match else ()
    stacked = "{}" in "".join(names)
    rows = value.shape[int(stacked)] if value.ndim > stacked else 0
    if match is None or not names or not value.numel() or not rows or rows % len(names):
        yield name, value
        return
    n = rows // len(names)
    start, end = match.span()
    for at in range(value.shape[0] if stacked else 1):
        whole = value[at] if stacked else value
        for i, part in enumerate(names):
            yield name[:start] + part.format(at) + name[end:], whole[i * n : (i + 1) * n]


def module_name(model: PretrainedModel, stored: str, shapes: Mapping[str, object]) -> str | None:
    """Return the module's name for a checkpoint's tensor; None if it is not a weight."""
    name = stored
    for pattern, replacement in model.renamed.items():
        name = re.sub(pattern, replacement, name)
    prefix = model.base_model_prefix + "."
    if name not in shapes and not name.startswith(prefix) and prefix + name in shapes:
        name = prefix + name
    if name not in shapes and _any_match(model.ignored, "." + name):
        return None
    return name


def to_checkpoint(model: PretrainedModel) -> dict[str, Tensor]:
    """Return the weights under the names and in the layout of files; tied ones once."""
    tied = model.tied if model.config.tie_word_embeddings else {}
    return {
        name: value.mT if is_transposed(model, name, value) else value
        for name, value in model.state_dict().items()
        if name not in tied
    }


def is_transposed(model: PretrainedModel, name: str, value: Tensor) -> bool:
    """Return whether files store a weight as (in, out); packed ones are always (out, in)."""
    return _any_match(model.transposed, name) and value.ndim == 2 and not value.dtype.is_packed


def _any_match(patterns: tuple[str, ...], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)
