"""A language model for a command, with the progress of what is converted on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.cli.progress import byte_progress

if TYPE_CHECKING:
    from gradient.generation import LanguageModel


def load_language_model(model: str, *, quiet: bool = False, **options: Any) -> LanguageModel:
    """See `gradient.hub.load`.

    Args:
        quiet: show nothing. Nor is anything shown where weights stay as they are: mapping them
            takes no time.
    """
    from gradient import hub

    converted = options.get("dtype") or options.get("quantize") or options.get("device") != "cpu"
    with byte_progress("loading", quiet=quiet or not converted) as progress:
        return hub.load(model, progress=progress, **options)
