"""Finding a model by name and loading it: `gradient.hub.load("gpt2")`.

A name is, in this order: a folder or a file; the bundled model ("tinyworld"); an id on the Hugging
Face hub, perhaps with a file in it. Downloaded files are cached; later loads use no network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import gradient
from gradient import absent, quantization
from gradient.checkpoints import Checkpoint, load_model, open_checkpoint
from gradient.checkpoints.loading import Progress
from gradient.embedding import Pooling, TextEncoder
from gradient.errors import ModelNotFound, TypeMismatch, UnsupportedModel
from gradient.generation.language_model import LanguageModel
from gradient.hub.download import download, is_hub_id
from gradient.models.causal_lm import CausalLM
from gradient.models.config import CONFIG_NAME
from gradient.models.encoder import EncoderModel
from gradient.models.pretrained import PretrainedModel
from gradient.tensor.device import DeviceLike
from gradient.text import Tokenizer

__all__ = ["LanguageModel", "TextEncoder", "embedded_models", "find", "load", "load_text_encoder"]

EMBEDDED = Path(gradient.__file__).parent / "hub_data"

Model = TypeVar("Model", CausalLM, EncoderModel)

#: Short names of hub ids.
ALIASES = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}


def load(
    model: str | Path,
    *,
    file: str | None = None,
    tokenizer: str | Path | None = None,
    device: DeviceLike = None,
    dtype: gradient.DType | str | None = None,
    revision: str | None = None,
    offline: bool = False,
    quantize: str | None = None,
    progress: Progress | None = None,
) -> LanguageModel:
    """Load a language model and its tokenizer. (`load_text_encoder` loads an encoder.)

    Args:
        model: a folder (config.json, *.safetensors or pytorch_model.bin, and a tokenizer; or the
            folder of a training run, which has such a folder named model), a file (.gguf, a
            llama2.c .bin, PyTorch's .pth beside a config.json), the name of the bundled model, or a
            hub id such as "openai-community/gpt2" ("gpt2" for short).
        file: the file of weights to load, if a folder or hub repository has several; the first part
            of a split file.
        tokenizer: the folder or file of the tokenizer, if it is not the model's own.
        device: where to run; None: the CPU.
        dtype: floating dtype to convert the weights to, or its name ("bfloat16", "bf16"); None
            keeps the stored dtype. Quantised weights stay quantised.
        revision: branch, tag or commit of a hub model.
        offline: never use the network; only cached files are found.
        quantize: quantise the weights while loading, one at a time: "q8_0", "q4_0", "q4_k_m",
            "q6_k", "int8", "int4" or another of `gradient.quantization.SCHEMES`. Weights that are
            already quantised are not changed.
        progress: a function that is called after each tensor with the bytes read so far and the
            total number of bytes.

    Returns:
        The model. If there is no tokenizer, it takes and returns token ids only.

    Raises:
        ModelNotFound: no model has that name; the message lists all places that were searched.
        UnsupportedModel: the model is an encoder, or its architecture is unknown.
        FileFormatError, StateDictError: see `gradient.checkpoints.load_model`.
    """
    network, tokens, _ = _load(
        CausalLM, model,
        file=file, tokenizer=tokenizer, device=device, dtype=dtype, revision=revision,
        offline=offline, quantize=quantize, progress=progress,
    )  # fmt: skip
    return LanguageModel(network, tokens, str(model))


def load_text_encoder(
    model: str | Path,
    *,
    file: str | None = None,
    tokenizer: str | Path | None = None,
    device: DeviceLike = None,
    dtype: gradient.DType | str | None = None,
    revision: str | None = None,
    offline: bool = False,
    quantize: str | None = None,
    progress: Progress | None = None,
) -> TextEncoder:
    """Load a text encoder, such as BERT, for embeddings; the arguments are those of `load`.

    Raises:
        UnsupportedModel: the model is a language model; other errors are those of `load`.
    """
    network, tokens, checkpoint = _load(
        EncoderModel, model,
        file=file, tokenizer=tokenizer, device=device, dtype=dtype, revision=revision,
        offline=offline, quantize=quantize, progress=progress,
    )  # fmt: skip
    pooling = Pooling.from_folder(checkpoint.folder)
    return TextEncoder(network, tokens, pooling, str(model))


def _load(
    kind: type[Model],
    model: str | Path,
    *,
    file: str | None,
    tokenizer: str | Path | None,
    device: DeviceLike,
    dtype: gradient.DType | str | None,
    revision: str | None,
    offline: bool,
    quantize: str | None,
    progress: Progress | None,
) -> tuple[Model, Tokenizer | None, Checkpoint]:
    """Return a model of this kind, its tokenizer and its checkpoint; see `load`."""
    packing = None if quantize is None else quantization.quantizer(quantize)
    checkpoint = open_checkpoint(find(model, file=file, revision=revision, offline=offline))
    network = load_model(
        checkpoint, dtype=dtype, device=device, converter=packing, progress=progress
    )
    tokens = checkpoint.tokenizer if tokenizer is None else Tokenizer.load(tokenizer)
    return _of_kind(kind, network, model), tokens, checkpoint


_KINDS = {
    CausalLM: "a language model: it writes text (gradient.hub.load(...).generate) and makes no "
    "vectors",
    EncoderModel: "an encoder: it makes vectors of texts (gradient.hub.load_text_encoder(...)"
    ".embed) and writes none",
}


def _of_kind(kind: type[Model], network: PretrainedModel, name: str | Path) -> Model:
    """Return `network`, which must be an instance of `kind`."""
    if isinstance(network, kind):
        return network
    what = next(text for other, text in _KINDS.items() if isinstance(network, other))
    raise UnsupportedModel(f"model {str(name)!r} is {what}")


def embedded_models() -> list[str]:
    """Return the names of the bundled models."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/config.json"))


def find(
    model: str | Path,
    *,
    file: str | None = None,
    revision: str | None = None,
    offline: bool = False,
) -> Path:
    """Return the folder or file of a model; a hub model is downloaded if it is not cached.

    Raises:
        ModelNotFound: no model has that name; the message lists all places that were searched.
    """
    if not isinstance(model, str | Path):
        raise TypeMismatch(f"model: expected a name or a path, got {model!r:.80}")
    name = str(model)
    path = Path(model).expanduser()
    if name and path.exists():
        if file is not None:
            path = path / file
        # The folder of a training run stands for the model that the run has made.
        made = path / "model"
        stands_for_it = not (path / CONFIG_NAME).is_file() and (made / CONFIG_NAME).is_file()
        return made if stands_for_it else path
    if name in embedded_models():
        return EMBEDDED / name
    hub_id = ALIASES.get(name, name)
    if file is None and hub_id.endswith(".gguf") and hub_id.count("/") > 1:
        owner, repository, file = hub_id.split("/", 2)
        hub_id = f"{owner}/{repository}"
    if isinstance(model, Path) or not is_hub_id(hub_id):
        raise ModelNotFound(
            f"model {name!r} not found: there is no such folder or file, none of those that come "
            f"with gradient ({', '.join(embedded_models()) or 'none do'}), and no hub id "
            "(owner/name)"
        )
    try:
        return download(hub_id, file=file, revision=revision, offline=offline)
    except ModelNotFound as error:
        if "check the network" not in str(error) or not embedded_models():
            raise
        embedded = ", ".join(embedded_models())
        raise ModelNotFound(f"{error}; without a network there is {embedded}") from error


if not TYPE_CHECKING:
    __getattr__ = absent.names(__name__)
