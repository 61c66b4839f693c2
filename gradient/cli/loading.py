"""A language model for a command, with the progress of what is converted on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradient.cli.progress import byte_progress

if TYPE_CHECKING:
    from gradient.generation import LanguageModel
    from gradient.text import Tokenizer


def tokenizer_of(language_model: LanguageModel) -> Tokenizer:
    """The model's tokenizer.

    Raises:
        ArgumentError: it came without one.
    """
    if language_model.tokenizer is None:
        from gradient.errors import ArgumentError

        raise ArgumentError(
            f"{language_model.name}: came without a tokenizer, and text needs one; "
            "give --tokenizer, a folder or file"
        )
    return language_model.tokenizer


def load_language_model(model: str, *, quiet: bool = False, **options: Any) -> LanguageModel:
    """See `gradient.hub.load_language_model`.

    Args:
        quiet: show nothing. Nor is anything shown where weights stay as they are: mapping them
            takes no time.
    """
    from gradient import hub

    converted = options.get("dtype") or options.get("quantize") or options.get("device") != "cpu"
    with byte_progress("loading", quiet=quiet or not converted) as progress:
        return hub.load_language_model(model, progress=progress, **options)
