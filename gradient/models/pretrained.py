"""The contract between a model and its checkpoints.

A model file subclasses `CausalLM` or `EncoderModel`, which are `PretrainedModel`s, and states, as
data, how its checkpoints differ from its modules.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gradient
from gradient import nn
from gradient.models import registry
from gradient.models.config import ModelConfig
from gradient.tensor import Device

__all__ = ["PretrainedModel"]


class PretrainedModel(nn.Module):
    """A module that `load_model` makes of a checkpoint and `save_model` writes as one."""

    config_class: ClassVar[type[ModelConfig]]

    # How checkpoints differ from `state_dict()`. Patterns are regular expressions, searched for in
    # whole names.
    #: The attribute that holds the model without its head ("model", "transformer"), whose name
    #: files that were saved from that alone lack in their weights' names.
    base_model_prefix: ClassVar[str] = "model"
    #: What stands in names of some files in place of a module's: {pattern: replacement}.
    renamed: ClassVar[dict[str, str]] = {}
    #: Matrices stored (in, out) in files and (out, in) in modules.
    transposed: ClassVar[tuple[str, ...]] = ()
    #: Tensors that files may hold in one piece and modules have apart: {pattern: names in place of
    #: the match}. Several names share the rows equally; a name with {} in it stands for many, one
    #: for each matrix of a stack (the experts of a mixture, say). Files are written with the parts.
    split: ClassVar[dict[str, tuple[str, ...]]] = {}
    #: Tensors in files that are no weights (masks, rotary tables), or not of this model.
    ignored: ClassVar[tuple[str, ...]] = ()
    #: {name: the name it shares a parameter with} when `config.tie_word_embeddings`.
    tied: ClassVar[dict[str, str]] = {}
    #: Modules that some checkpoints are without: they are None in the model of such a one.
    optional: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def architecture(self) -> str:
        """Return transformers' class for what this model is, for config.json."""
        return registry.architecture(self)

    @property
    def base_model(self) -> Any:
        """Return the model without its head."""
        return getattr(self, self.base_model_prefix)

    def post_init(self) -> None:
        """Tie weights as the config says, and set their initial values: the end of `__init__`."""
        if self.config.tie_word_embeddings:
            for name, source in self.tied.items():
                path, _, attribute = name.rpartition(".")
                setattr(self.get_submodule(path), attribute, self.get_parameter(source))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the initial weights."""
        raise NotImplementedError

    @property
    def dtype(self) -> gradient.DType:
        """Return the dtype of weights that are not packed, and of hidden states and caches."""
        dtypes = (p.dtype for p in self.parameters() if not p.dtype.is_packed)
        return next(dtypes, gradient.float32)

    @property
    def device(self) -> Device:
        """Return the device of the weights."""
        return next(self.parameters()).device

    def num_parameters(self) -> int:
        """Return the number of weights, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def summary(self) -> str:
        """Return how large the model is, and where: "124.4 M parameters, float32 on cpu"."""
        return f"{self.num_parameters() / 1e6:.1f} M parameters, {self.dtype.name} on {self.device}"
