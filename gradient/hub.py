"""Finding a model by name and loading it: `gradient.hub.load("gpt2")`.

A name is, in this order: a folder; a model that comes with gradient ("pycoder"); an id on the
Hugging Face hub. What was downloaded once is used from then on without any network access.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradient
from gradient.errors import ArgumentError, ModelNotFound, TypeMismatch
from gradient.generation.language_model import LanguageModel
from gradient.io.sharded import open_sharded
from gradient.models.loading import load_model
from gradient.text import Tokenizer

__all__ = ["LanguageModel", "embedded_models", "find", "load"]

EMBEDDED = Path(__file__).parent / "hub_data"

#: Short names of hub ids.
ALIASES = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}

#: What is downloaded of a hub repository: never weights in other formats, never code.
PATTERNS = [
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "encoder.json",
    "vocab.bpe",
    "chat_template.jinja",
]


def load(
    model: str | Path,
    *,
    device: Any = None,
    dtype: gradient.DType | str | None = None,
    revision: str | None = None,
    offline: bool = False,
    quantize: str | None = None,
) -> LanguageModel:
    """Load a language model and its tokenizer.

    Args:
        model: a folder (config.json, *.safetensors, tokenizer.json or vocab.json and merges.txt;
            or a training run's, which holds such a folder under the name model),
            the id of a model that comes with gradient, or a hub id such as "openai-community/gpt2"
            ("gpt2" for short).
        device: where to run; None is the CPU.
        dtype: floating dtype to convert the weights to; None keeps them as stored.
        revision: branch, tag or commit of a hub model.
        offline: never use the network; what is not on this machine is not found.
        quantize: only None so far.

    Raises:
        ModelNotFound: nothing has that name, with all the places looked at.
        UnsupportedModel, FileFormatError, StateDictError: see `gradient.models.load_model`.
    """
    if quantize is not None:
        raise ArgumentError(
            f"quantize: {quantize!r} is not supported: None, which keeps the weights as stored, is "
            f"the only choice so far; for smaller weights give dtype=gradient.bfloat16"
        )
    folder = find(model, revision=revision, offline=offline)
    network = load_model(folder, dtype=_dtype(dtype), device=device)
    return LanguageModel(network, Tokenizer.from_folder(folder), name=str(model))


def embedded_models() -> list[str]:
    """Return the ids of the models that come with gradient."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/config.json"))


def find(model: str | Path, *, revision: str | None = None, offline: bool = False) -> Path:
    """Return the folder of a model, which is downloaded if it is on the hub and not yet here.

    Raises:
        ModelNotFound: nothing has that name, with all the places looked at.
    """
    if not isinstance(model, str | Path):
        raise TypeMismatch(f"model: expected a name or a folder, got {model!r:.80}")
    name = str(model)
    folder = Path(model).expanduser()
    if name and folder.is_dir():
        # The folder of a training run stands for the model that the run has made.
        made = folder / "model"
        return made if (made / "config.json").is_file() else folder
    if folder.is_file():
        raise ModelNotFound(
            f"model {name!r} is a file: expected a folder with config.json, *.safetensors and a "
            f"tokenizer (single-file formats, such as .gguf, are not read yet)"
        )
    if name in embedded_models():
        return EMBEDDED / name
    hub_id = ALIASES.get(name, name)
    if isinstance(model, Path) or not _is_hub_id(hub_id):
        raise ModelNotFound(
            f"model {name!r} not found: there is no such folder, none of those that come with "
            f"gradient ({', '.join(embedded_models()) or 'none do'}), and no hub id (owner/name)"
        )
    return download(hub_id, revision=revision, offline=offline)


def download(hub_id: str, *, revision: str | None = None, offline: bool = False) -> Path:
    """Return the folder of a hub repository's files, from the local cache if it is complete there.

    An interrupted download is resumed. A branch that has moved since is not noticed: delete the
    cached copy, or name a newer revision.

    Raises:
        ModelNotFound: no such repository or revision, no access, or no network.
    """
    # Late: its import takes longer than gradient's own.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(local: bool) -> Path:
        return Path(
            snapshot_download(
                hub_id, revision=revision, allow_patterns=PATTERNS, local_files_only=local
            )
        )

    tried = f"model {hub_id!r}" + (f" at revision {revision!r}" if revision else "")
    tried += " not found: no folder of that name, not in the local cache of the hub"
    try:
        cached: Path | None = snapshot(local=True)
    except LocalEntryNotFoundError as error:
        # Some of the files may be there: enough perhaps, as another program fetched what it needs.
        cached = Path(path) if (path := getattr(error, "snapshot_path", None)) else None
    if cached is not None:
        if is_complete(cached):
            return cached
        tried += " (only a part of it: a download was interrupted)"
    if offline:
        raise ModelNotFound(
            f"{tried}, and offline=True forbids a download\n"
            f"fix: load it once with offline=False where there is a network; the cache folder "
            f"can be copied (HF_HUB_CACHE names it)"
        )
    try:
        return snapshot(local=False)
    except Exception as error:  # the hub's answer, or whatever the HTTP library raises without one
        raise ModelNotFound(f"{tried}, and {_explained(error)}") from error


def _explained(error: Exception) -> str:
    """Return why a download failed, and on a second line what to do about it."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            "its owner grants access on request\n"
            "fix: ask for access on the model's page, then log in: hf auth login"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return "the hub has no such revision of it\nfix: check revision="
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "the hub has no such model (or a private one)\n"
            "fix: check the spelling; for a private model log in: hf auth login"
        )
    reason = str(error).strip().split("\n")[0]
    names = embedded_models()
    alone = f"; without one there is {', '.join(names)}" if names else ""
    return (
        f"the download failed ({type(error).__name__}: {reason})\n"
        f"fix: check the network, or give a folder{alone}"
    )


def is_complete(folder: Path) -> bool:
    """Return whether a snapshot holds a config, all of its weights and a tokenizer."""
    if not (folder / "config.json").is_file():
        return False
    tokenizers = ("tokenizer.json", "vocab.json", "encoder.json")
    if not any((folder / name).is_file() for name in tokenizers):
        return False
    try:
        open_sharded(folder)
    except ModelNotFound:  # none, or a shard is missing
        return False
    return True


def _is_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def _dtype(dtype: gradient.DType | str | None) -> gradient.DType | None:
    """Return the floating dtype of that name."""
    if isinstance(dtype, str):
        found = getattr(gradient, dtype, None)
        if not isinstance(found, gradient.DType):
            raise ArgumentError(
                f"dtype: expected float32, bfloat16, float16 or float64, got {dtype!r}"
            )
        dtype = found
    if dtype is not None and not (isinstance(dtype, gradient.DType) and dtype.is_floating_point):
        raise ArgumentError(
            "dtype: expected a floating dtype for weights, such as gradient.bfloat16, got "
            f"{dtype!r}"
        )
    return dtype
