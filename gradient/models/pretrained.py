"""The contract between a model and its checkpoints.

A model file subclasses `CausalLM` or `EncoderModel`, which are `PretrainedModel`s, and declares, as
data, the differences between its checkpoints and its modules.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gradient
from gradient import absent, nn
from gradient.models import registry
from gradient.models.config import ModelConfig
from gradient.tensor import Device

__all__ = ["PretrainedModel"]


@absent.hints(
    from_pretrained="use gradient.hub.load(source).model, or gradient.checkpoints.load_model",
    save_pretrained="use gradient.checkpoints.save_model(model, folder)",
    generate="use gradient.generation.LanguageModel(model, tokenizer).generate(text)",
    push_to_hub="save_model writes a folder, which `hf upload` uploads",
)
class PretrainedModel(nn.Module):
    """A module that `load_model` makes from a checkpoint and `save_model` writes as one."""

    config_class: ClassVar[type[ModelConfig]]

    # Differences between checkpoints and `state_dict()`. Patterns are regular expressions, searched
    # for in whole names.
    #: The attribute of the model without its head ("model", "transformer"). Weights in files saved
    #: from that part alone lack this prefix.
    base_model_prefix: ClassVar[str] = "model"
    #: Names in some files that differ from the module's: {pattern in the file's: replacement}.
    renamed: ClassVar[dict[str, str]] = {}
    #: Matrices stored (in, out) in files and (out, in) in modules.
    transposed: ClassVar[tuple[str, ...]] = ()
    #: Tensors that some files have in one piece: {pattern: names of the module's tensors, in place
    #: of the match}. Several names share the rows equally; a name with {} stands for many, one
    #: for each matrix of a stack (such as the experts of a mixture). Files are written in parts.
    split: ClassVar[dict[str, tuple[str, ...]]] = {}
    #: Tensors in files that are not weights (masks, rotary tables), or not of this model.
    ignored: ClassVar[tuple[str, ...]] = ()
    #: {name: the name it shares a parameter with} when `config.tie_word_embeddings`.
    tied: ClassVar[dict[str, str]] = {}
    #: Modules that some checkpoints lack; they are None in the model.
    optional: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def architecture(self) -> str:
        """Return transformers' class name for this model, for config.json."""
        return registry.architecture(self)

    @property
    def base_model(self) -> Any:
        """Return the model without its head."""
        return getattr(self, self.base_model_prefix)

    def post_init(self) -> None:
        """Tie weights if configured, and set initial values; call at the end of `__init__`."""
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
        """Return the number of weights; tied ones count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def summary(self) -> str:
        """Return the model's size, dtype and device: "124.4 M parameters, float32 on cpu"."""
        return f"{self.num_parameters() / 1e6:.1f} M parameters, {self.dtype.name} on {self.device}"
