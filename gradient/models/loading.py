"""A model folder to a module and back: config.json and safetensors, as transformers lays them out.

Weights are memory-mapped and become the module's parameters where they lie: nothing is initialised
or copied, so loading takes milliseconds, and memory grows as pages are used, at most to the file's
size. Training works too: the pages are copied when first written, and the file stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gradient
from gradient.errors import FileFormatError, GradientError, ModelNotFound, StateDictError
from gradient.io import atomic
from gradient.io.json_file import read_json
from gradient.io.sharded import open_sharded, save_sharded
from gradient.models.causal_lm import CausalLM
from gradient.models.config import CONFIG_NAME
from gradient.models.registry import model_class
from gradient.nn import init
from gradient.tensor import Tensor

MAX_CONFIG_BYTES = 16 * 1024 * 1024  # a config.json has a few KB: beyond this it is something else


def load_model(
    folder: str | Path,
    *,
    dtype: gradient.DType | None = None,
    device: Any = None,
) -> CausalLM:
    """Load the language model in `folder`: config.json beside model.safetensors or its shards.

    The model is in evaluation mode (dropout off); `model.train()` changes that.

    Args:
        dtype: floating dtype to convert the weights to; None keeps each as stored.
        device: where the weights go; None is the CPU.

    Raises:
        ModelNotFound: no such folder, or a file it must hold is absent.
        UnsupportedModel: a `model_type` that gradient does not know.
        FileFormatError: a malformed config.json, or a truncated or malformed safetensors file.
        StateDictError: weights that do not fit the configuration, all misfits listed together.
    """
    folder = Path(folder)
    values = read_config(folder)
    cls = model_class(values.get("model_type"))
    try:
        config = cls.config_class.from_hf(values)
    except FileFormatError as error:
        raise FileFormatError(f"{folder / CONFIG_NAME}: {error}") from error
    state = read_weights(folder, dtype, device)
    model = empty_model(cls, config, state, folder)
    fit(model, state)
    return model.eval()


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's config.json.

    Raises:
        ModelNotFound: there is no such folder, or no config.json in it.
        FileFormatError: it is not a JSON object.
    """
    if not folder.is_dir():
        raise ModelNotFound(f"{folder}: there is no such folder")
    if not (folder / CONFIG_NAME).is_file():
        raise ModelNotFound(
            f"{folder}: there is no {CONFIG_NAME}; expected the folder of a model (with "
            f"{CONFIG_NAME}, *.safetensors and a tokenizer) or of a training run that has saved one"
        )
    values = read_json(folder / CONFIG_NAME, MAX_CONFIG_BYTES)
    if not isinstance(values, dict):
        raise FileFormatError(
            f"{folder / CONFIG_NAME}: expected a JSON object, got {type(values).__name__}"
        )
    return values


def read_weights(
    folder: Path, dtype: gradient.DType | None = None, device: Any = None
) -> dict[str, Tensor]:
    """Return every tensor of a folder's safetensors file, or of its shards, by its stored name.

    They are views of the mapped files. With a `dtype` (for floating ones) or a `device` they are
    converted one at a time, so that memory holds the new ones and one of the old.

    Raises:
        ModelNotFound: there are no weights in safetensors format.
        FileFormatError: a file is truncated or malformed.
    """
    try:
        files = open_sharded(folder)
    except ModelNotFound as error:
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
            raise ModelNotFound(
                f"{error}\nfix: convert the PyTorch weights, which are not read here, with "
                f"transformers: AutoModelForCausalLM.from_pretrained(path).save_pretrained(path)"
            ) from None
        raise
    state = {}
    for name, stored in files.items():
        floating = stored.dtype.is_floating_point
        state[name] = stored.to(device=device, dtype=dtype if floating else None)
        if state[name] is not stored:
            files.release(name)
    return state


def empty_model(
    cls: type[CausalLM], config: Any, state: dict[str, Tensor], folder: Path
) -> CausalLM:
    """Build the module tree without giving it values; refuse one that the weights cannot fill.

    Memory for uninitialised tensors is reserved, not used; but a config.json that asks for a
    million layers, or for more memory than there is, must end in an error and not in a busy
    machine.
    """
    name = config.aliases.get("num_hidden_layers", "num_hidden_layers")
    layers = getattr(config, name, 0)
    if layers > len(state):
        raise StateDictError(
            f"{folder}: config.json says {layers} layers, but there are only {len(state)} tensors"
        )
    try:
        with init.skip_init():
            return cls(config)
    except GradientError:
        raise
    except (MemoryError, ValueError) as error:  # NumPy's words for too large and far too large
        raise FileFormatError(
            f"{folder / CONFIG_NAME}: asks for larger weights than memory can hold ({error})"
        ) from error


def fit(model: CausalLM, state: Mapping[str, Tensor]) -> None:
    """Make checkpoint tensors the parameters of `model`, by name.

    Raises:
        StateDictError: missing, unexpected or wrongly shaped tensors, listed together.
    """
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    fitted: dict[str, Tensor] = {}
    for stored, value in parts(model, state):
        name = module_name(model, stored, own)
        if name is None:
            continue
        if name in fitted:  # the file has it with and without the prefix: one is unexpected
            name = stored if stored != name else model.prefix + stored
        if _any_match(model.transposed, name) and value.ndim == 2:
            value = value.mT  # a view: (in, out) as stored, (out, in) as nn.Linear has it
        fitted[name] = value
    integers = [
        f"  {name}: {value.dtype}"
        for name, value in fitted.items()
        if name in own and not value.dtype.is_floating_point
    ]
    if integers:
        raise StateDictError("weights must be floating-point numbers:\n" + "\n".join(integers))
    tie(model, fitted)
    model.load_state_dict(fitted, assign=True)


def parts(model: CausalLM, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield checkpoint tensors by name, those that `model.split` lists in parts: views of them.

    One whose shape cannot be split stays as it is, for the error that lists what does not fit.
    """
    for name, value in state.items():
        pattern = next((p for p in model.split if re.search(p, name)), "")
        names = model.split.get(pattern, ())
        stacked = "{}" in "".join(names)
        rows = value.shape[int(stacked)] if value.ndim > stacked else 0
        if not names or not value.numel() or not rows or rows % len(names):
            yield name, value
            continue
        n = rows // len(names)
        start, end = re.search(pattern, name).span()  # type: ignore[union-attr]
        for at in range(value.shape[0] if stacked else 1):
            whole = value[at] if stacked else value
            for i, part in enumerate(names):
                yield name[:start] + part.format(at) + name[end:], whole[i * n : (i + 1) * n]


def module_name(model: CausalLM, stored: str, own: dict[str, Any]) -> str | None:
    """Return the module's name for a checkpoint's tensor; None for one that is no weight."""
    name = stored
    if name not in own and not name.startswith(model.prefix) and model.prefix + name in own:
        name = model.prefix + name
    if name not in own and _any_match(model.ignored, "." + name):
        return None
    return name


def tie(model: CausalLM, state: dict[str, Tensor]) -> None:
    """Give tied parameters both of their names in `state`; untie those that a checkpoint has apart.

    Like transformers, a file that holds two different matrices beside a config that ties them is
    believed over the config.
    """
    if not model.config.tie_word_embeddings:
        return
    for name, source in model.tied.items():
        if name not in state and source in state:
            state[name] = state[source]
        elif source not in state and name in state:
            state[source] = state[name]
        elif name in state and not _equal(state[name], state[source]):
            model.config.tie_word_embeddings = False
            path, _, attribute = name.rpartition(".")
            own = model.get_submodule(path)
            setattr(own, attribute, gradient.nn.Parameter(getattr(own, attribute).detach()))


def save_model(
    model: CausalLM, folder: str | Path, *, max_shard_bytes: int = 5_000_000_000
) -> None:
    """Write config.json and safetensors into `folder`, for `load_model` and for transformers.

    Every file is written beside its place and renamed. A tied matrix is written once.

    Args:
        max_shard_bytes: split larger models into shards of at most this size, with an index.

    Raises:
        CheckpointError: the disk is full, read-only or failing; the files there are left as they
            were.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = save_sharded(to_checkpoint(model), folder, max_shard_bytes=max_shard_bytes)
    config = {
        "architectures": [type(model).__name__],
        **model.config.to_hf(),
        "dtype": model.dtype.name,
    }
    atomic.write_text(folder / CONFIG_NAME, json.dumps(config, indent=2) + "\n")
    # What an earlier save in another number of shards has left would be loaded in place of this
    # one.
    for path in {*folder.glob("model*.safetensors"), *folder.glob("model*.safetensors.index.json")}:
        if path not in written:
            path.unlink()


def to_checkpoint(model: CausalLM) -> dict[str, Tensor]:
    """Return the weights under the names and in the layout that files have; tied ones once."""
    tied = model.tied if model.config.tie_word_embeddings else {}
    return {
        name: value.mT if _any_match(model.transposed, name) else value
        for name, value in model.state_dict().items()
        if name not in tied
    }


def _any_match(patterns: tuple[str, ...], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())
