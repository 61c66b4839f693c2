"""Downloads from the Hugging Face hub: the files of a model, if they are not cached."""

from __future__ import annotations

import os
import re
from pathlib import Path

from gradient.checkpoints import open_checkpoint
from gradient.errors import FileFormatError, ModelNotFound
from gradient.io.sharded import read_index
from gradient.text.files import has_tokenizer

#: The files to download beside the weights; never code.
DESCRIPTION = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "encoder.json",
    "vocab.bpe",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
]
#: The weights, in one file or in those that an index names; the second format only if a repository
#: lacks the first. Other weights (consolidated.safetensors, original/, onnx/) are copies of the
#: same model under other names.
SAFETENSORS = ["model.safetensors", "model.safetensors.index.json"]
TORCH = ["pytorch_model.bin", "pytorch_model.bin.index.json"]


def download(
    hub_id: str, *, file: str | None = None, revision: str | None = None, offline: bool = False
) -> Path:
    """Return the folder of a hub repository's files, or one file, downloaded if it is not cached.

    An interrupted download is resumed. If a branch has moved since the download, this is not
    noticed: delete the cached copy, or give a newer revision.

    Args:
        file: the weights' file, such as "model.Q4_K_M.gguf" (of a split one, its first part); None
            fetches safetensors, or PyTorch's format where there are none.

    Raises:
        ModelNotFound: no such repository, revision or file, no access, or no network.
    """
    if os.environ.get("XDG_CACHE_HOME") == "":  # counts as unset; huggingface_hub would go by it
        del os.environ["XDG_CACHE_HOME"]
    # Late: its import takes longer than gradient's own.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(*weights: str, local: bool = False) -> Path:
        patterns = [*DESCRIPTION, *weights]
        return Path(
            snapshot_download(
                hub_id, revision=revision, allow_patterns=patterns, local_files_only=local
            )
        )

    wanted = SAFETENSORS if file is None else [all_parts(file)]
    tried = f"model {hub_id!r}" + (f" at revision {revision!r}" if revision else "")
    tried += " not found: no folder of that name, not in the local cache of the hub"
    try:
        cached: Path | None = snapshot(*wanted, local=True)
    except LocalEntryNotFoundError as error:
        # Some of the files may be there: enough perhaps, as another program fetched what it needs.
        cached = Path(path) if (path := getattr(error, "snapshot_path", None)) else None
    if cached is not None:
        if is_complete(cached, file):
            return cached / (file or "")
        tried += " (only a part of it: a download was interrupted)"
    if offline:
        raise ModelNotFound(
            f"{tried}, and offline=True forbids a download\n"
            f"fix: load it once with offline=False where there is a network; the cache folder "
            f"can be copied (HF_HUB_CACHE names it)"
        )
    try:
        folder = snapshot(*wanted)
        if file is None and not has_any(folder, SAFETENSORS):
            wanted = TORCH
            folder = snapshot(*TORCH)
        if has_any(folder, wanted):
            if file is None and (shards := shards_of(folder, *wanted)):
                folder = snapshot(*wanted, *map(literal, shards))
            return folder / (file or "")
        held = files_of(hub_id, revision)
    except FileFormatError:
        raise
    except Exception as error:  # the hub's answer, or whatever the HTTP library raises without one
        raise ModelNotFound(f"{tried}, and {_explained(error)}") from error
    raise ModelNotFound(_without_weights(hub_id, file, held))


def all_parts(file: str) -> str:
    """Return the pattern of a file's name, or of all parts of one that was split.

    >>> all_parts("model-00001-of-00003.gguf")
    'model-*-of-00003.gguf'
    """
    return re.sub(r"-\d{5}-of-(\d{5}\.)", r"-*-of-\1", literal(file))


def literal(name: str) -> str:
    """Return the pattern that means just this name.

    >>> literal("a[1]*.gguf")
    'a[[]1][*].gguf'
    """
    return re.sub(r"([\[*?])", r"[\1]", name)


def shards_of(folder: Path, single: str, index: str) -> list[str]:
    """Return the names of the files that the weights in a folder are split into; none if not.

    Raises:
        FileFormatError: the index is damaged, or names files that are not beside it.
    """
    if (folder / single).is_file() or not (folder / index).is_file():
        return []
    return sorted(set(read_index(folder / index).values()))


def has_any(folder: Path, patterns: list[str]) -> bool:
    """Return whether a folder has a file of one of these patterns."""
    return any(path.is_file() for pattern in patterns for path in folder.glob(pattern))


def files_of(hub_id: str, revision: str | None) -> list[str]:
    """Return the names of a repository's files, as the hub lists them."""
    from huggingface_hub import list_repo_files

    return list(list_repo_files(hub_id, revision=revision))


def _without_weights(hub_id: str, file: str | None, held: list[str]) -> str:
    weights = [n for n in held if n.endswith((".gguf", ".safetensors", ".bin", ".pt", ".pth"))]
    first = [n for n in weights if "-of-" not in n or "-00001-of-" in n]
    listed = ", ".join(first[:30]) or "no weights at all"
    if file is not None:
        return f"model {hub_id!r} has no file {file!r}; it has {listed}"
    fix = f"\nfix: name one, file={first[0]!r}" if first else ""
    return f"model {hub_id!r} has no weights in the usual places; it has {listed}{fix}"


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
    return (
        f"the download failed ({type(error).__name__}: {reason})\n"
        "fix: check the network, or give a folder"
    )


def is_complete(folder: Path, file: str | None = None) -> bool:
    """Return whether a snapshot holds a config, all of its weights and a tokenizer; or `file`."""
    if file is not None:
        split = re.search(r"-00001-of-(\d{5})\.", file)
        parts = [path for path in folder.glob(all_parts(file)) if path.is_file()]
        return len(parts) == (int(split[1]) if split else 1)
    if not has_tokenizer(folder):
        return False
    try:
        checkpoint = open_checkpoint(folder)
        return bool(checkpoint.config and checkpoint.weights)
    except ModelNotFound:  # none, or a shard is missing
        return False


def is_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name
