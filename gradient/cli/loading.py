"""Loads a language model for a command, with the progress of conversions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.cli import first_use
from gradient.cli.progress import byte_progress

if TYPE_CHECKING:
    from gradient.generation import LanguageModel


def load_language_model(name: str, *, quiet: bool = False, **options: Any) -> LanguageModel:
    """See `gradient.hub.load`.

    Args:
        quiet: show nothing. Without a conversion nothing is shown either: mapping weights
            takes no time.
    """
    from gradient import hub

    converted = options.get("dtype") or options.get("quantize") or options.get("device") != "cpu"
    with byte_progress("loading", quiet=quiet or not converted) as progress:
        loaded = hub.load(name, progress=progress, **options)
    model = loaded.model
    if model.device == "cpu" and not any(p.dtype.is_packed for p in model.parameters()):
        first_use.expect(f"generation in {model.dtype.name}")
    return loaded
