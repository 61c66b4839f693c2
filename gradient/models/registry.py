"""The table of model classes by config.json's `model_type`.

A model file is imported when its first model is loaded. To add a family: write its file, and its
row and import in `gradient.models.families`; or, outside the package, decorate the class with
`register_model`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradient.errors import UnsupportedModel
from gradient.models.families import MODELS

if TYPE_CHECKING:
    from gradient.models.config import ModelConfig
    from gradient.models.pretrained import PretrainedModel

__all__ = ["config_class", "model_class", "register_model", "supported_models"]

#: Classes given to `register_model`; they precede `MODELS`.
_registered: dict[str, type[PretrainedModel]] = {}


def register_model(*model_types: str) -> Callable[[type[PretrainedModel]], type[PretrainedModel]]:
    """Class decorator: load these model types with this `PretrainedModel` subclass."""

    def register(cls: type[PretrainedModel]) -> type[PretrainedModel]:
        for model_type in model_types:
            _registered[model_type] = cls
        return cls

    return register


def supported_models() -> list[str]:
    """Return the model types that can be loaded, sorted."""
    return sorted({*MODELS, *_registered})


def model_class(model_type: object, *, multimodal: bool = False) -> type[PretrainedModel]:
    """Return the class for a config.json's `model_type`.

    Args:
        multimodal: the config describes more than text, which the error then mentions.

    Raises:
        UnsupportedModel: the type is unknown; the message lists the known ones.
    """
    supported = supported_models()
    if model_type is None:
        raise UnsupportedModel(
            "model_type is not supported: config.json has none, which says what the model is "
            f"(supported: {', '.join(supported)})"
        )
    if not isinstance(model_type, str) or model_type not in supported:
        # Only probable typing errors: mamba is not a slip for llama.
        near = difflib.get_close_matches(str(model_type), supported, n=1, cutoff=0.75)
        raise UnsupportedModel(
            f"model_type {model_type!r} is not supported"
            + ("; it is a model of more than text" if multimodal else "")
            + (f"; did you mean {near[0]!r}?" if near and not multimodal else "")
            + f" (supported: {', '.join(supported)})"
        )
    if model_type in _registered:
        return _registered[model_type]
    return imported(MODELS[model_type].model)


def config_class(model_type: str) -> type[ModelConfig]:
    """Return the class of configurations for a supported `model_type`."""
    if model_type in _registered:
        return _registered[model_type].config_class
    return imported(MODELS[model_type].config)


def architecture(model: PretrainedModel) -> str:
    """Return transformers' name of a model's class."""
    model_type = model.config.model_type
    if model_type in _registered or model_type not in MODELS:
        return type(model).__name__
    return MODELS[model_type].architecture


def imported(path: str) -> Any:
    """Return a class of a file in gradient.models: "<file>.<name>"."""
    file, name = path.split(".")
    return getattr(import_module(f"gradient.models.{file}"), name)


#: {public class: its place}, imported at first use. A model also has the names of the
#: transformers classes that it implements.
LATE = {
    public: path
    for entry in MODELS.values()
    for public, path in (
        (entry.architecture, entry.model),
        (entry.model.split(".")[1], entry.model),
        (entry.config.split(".")[1], entry.config),
    )
}
