"""Load stored models into modules, and save modules as transformers' config.json and safetensors.

Weights are memory-mapped and become the module's parameters without a copy: nothing is initialised
or copied, so loading takes milliseconds, and memory grows as pages are used, at most to the file's
size. Training works too: pages are copied at their first write, and the file does not change.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import gradient
from gradient.checkpoints.checkpoint import Checkpoint
from gradient.checkpoints.formats import open_checkpoint
from gradient.checkpoints.gptq import METHODS
from gradient.checkpoints.weight_names import (
    is_transposed,
    module_name,
    split_weight,
    to_checkpoint,
)
from gradient.dtypes.names import floating_dtype
from gradient.errors import (
    ArgumentError,
    FileFormatError,
    GradientError,
    StateDictError,
    UnsupportedModel,
)
from gradient.io import atomic
from gradient.io.free_memory import available, warn_if_larger
from gradient.io.sharded import save_sharded
from gradient.models.causal_lm import CausalLM
from gradient.models.config import CONFIG_NAME
from gradient.models.pretrained import PretrainedModel
from gradient.models.registry import config_class, model_class
from gradient.nn import init
from gradient.nn.state_dict_misfits import RENAME
from gradient.tensor import Tensor
from gradient.tensor.device import DeviceLike

__all__ = ["load_model", "save_model"]

#: Far more than any model has; building them takes seconds.
MAX_LAYERS = 4096
Convert = Callable[[str, Tensor], Tensor]
#: Called with the bytes that are done, and the total.
Progress = Callable[[int, int], None]


def load_model(
    source: str | Path | Checkpoint,
    *,
    dtype: gradient.DType | str | None = None,
    device: DeviceLike = None,
    converter: Callable[[PretrainedModel], Convert] | None = None,
    progress: Progress | None = None,
) -> PretrainedModel:
    """Load the model in a folder or file of any format that `gradient.checkpoints.formats` lists.

    The model is in evaluation mode (dropout off); `model.train()` changes that. A language model's
    `generation_config` is the checkpoint's.

    Args:
        source: the folder or file, or a checkpoint that is open.
        dtype: floating dtype to convert the weights to, or its name ("bf16"); None keeps them as
            stored. Packed weights stay packed in any case; their products are computed in `dtype`,
            or float32 for None.
        device: the device of the weights; None: the CPU.
        converter: called with the model before its weights are loaded; returns a function from a
            weight's name and values to the tensor to load, such as a packed one
            (`quantization.quantizer`).
        progress: called after each stored tensor, with the bytes read so far and the total.

    Raises:
        ModelNotFound: no such folder or file, or a required file is missing.
        UnsupportedModel: an unknown `model_type`, or weights quantised in an unsupported
            way.
        FileFormatError: a malformed config.json or generation_config.json, or a truncated or
            malformed file of weights.
        StateDictError: weights that do not fit the configuration, all misfits listed together.
    """
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    dtype = None if dtype is None else floating_dtype(dtype)
    try:
        values = checkpoint.config
        multimodal = not values.keys().isdisjoint(("vision_config", "audio_config"))
        cls = model_class(values.get("model_type"), multimodal=multimodal)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{checkpoint.path}: {error}") from None
    check_quantization(checkpoint)
    try:
        config = config_class(values["model_type"]).from_hf(values)
    except FileFormatError as error:
        source = CONFIG_NAME if checkpoint.path.is_dir() else "its configuration"
        raise FileFormatError(f"{checkpoint.path}: {source}: {error}") from error
    if issubclass(cls, CausalLM):
        recommended = checkpoint.generation_config  # malformed, it fails before weights are read
    if converter is None:
        warn_of_size(checkpoint, dtype, device)
    model = empty_model(cls, config, checkpoint)
    if isinstance(model, CausalLM):
        model.generation_config = recommended

    pack = None if converter is None else converter(model)

    def convert_weight(name: str, value: Tensor) -> Tensor:
        if pack is not None:
            value = pack(name, value)
        is_float = value.dtype.is_floating_point and not value.dtype.is_packed
        return value.to(device=device, dtype=dtype if is_float else None)

    load_weights(model, checkpoint, convert_weight, progress, dtype)
    return model.eval()


def warn_of_size(checkpoint: Checkpoint, dtype: gradient.DType | None, device: DeviceLike) -> None:
    """Warn before loading if the weights are larger than the free memory."""
    stored = checkpoint.weights.nbytes
    if 8 * stored <= (available() or 8 * stored):
        return  # it fits in any dtype
    elsewhere = device is not None and gradient.device(device).type != "cpu"
    made = mapped = 0
    for value in (checkpoint.weights[name] for name in checkpoint.weights):
        is_float = value.dtype.is_floating_point and not value.dtype.is_packed
        if dtype is not None and is_float and value.dtype is not dtype:
            made += value.numel() * dtype.itemsize
        else:
            mapped += value.nbytes
    if not elsewhere:  # what goes to another device passes through
        warn_if_larger(str(checkpoint.path), made=made, mapped=mapped)


def check_quantization(checkpoint: Checkpoint) -> None:
    """Raise if config.json says that weights are quantised in another library's format."""
    settings = checkpoint.config.get("quantization_config")
    method = settings.get("quant_method") if isinstance(settings, dict) else settings
    if method not in (None, "gradient", *METHODS):
        raise UnsupportedModel(
            f"{checkpoint.path}: its weights are quantised by {method!r}, which is not read here; "
            "load the unquantised model, with quantize= for smaller weights, or a GGUF file of it"
        )


def empty_model(cls: type[PretrainedModel], config: Any, checkpoint: Checkpoint) -> PretrainedModel:
    """Build the module tree without values; raise if the weights cannot fill it.

    Memory for uninitialised tensors is reserved, not used. But a config.json with a
    million layers, or for more memory than there is, must cause an error and not a busy
    machine.
    """
    layers = getattr(config, "num_hidden_layers", 0)
    tensors = len(checkpoint.weights)
    if layers > min(tensors // 4, MAX_LAYERS):  # the minimum of a layer, in any family
        raise StateDictError(
            f"{checkpoint.path}: its configuration says {layers} layers, but there are only "
            f"{tensors} tensors"
            + (f"; more than {MAX_LAYERS} are not built" if layers > MAX_LAYERS else "")
        )
    experts = getattr(config, "num_experts", 0)
    if layers * experts > checkpoint.weights.nbytes:
        raise StateDictError(
            f"{checkpoint.path}: its configuration says {layers} layers of {experts} experts, but "
            f"there are only {checkpoint.weights.nbytes} bytes"
        )
    try:
        with init.skip_init():
            return cls(config)
    except (MemoryError, ValueError) as error:  # NumPy raises ValueError if far too large
        if isinstance(error, GradientError) and not isinstance(error, MemoryError):
            raise
        why = str(error).partition("\n")[0]
        raise FileFormatError(
            f"{checkpoint.path}: its configuration asks for larger weights than memory can hold "
            f"({why})"
        ) from error


def load_weights(
    model: PretrainedModel,
    checkpoint: Checkpoint,
    convert: Convert,
    progress: Progress | None = None,
    dtype: gradient.DType | None = None,
) -> None:
    """Make checkpoint tensors the parameters of `model`, by name, after `convert`.

    One stored tensor is converted at a time, so memory holds the results and one old tensor.

    Raises:
        StateDictError: missing, unexpected or wrongly shaped tensors, listed together.
    """
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    remove_absent_modules(
        model, {module_name(model, stored, shapes) or "" for stored in checkpoint.weights}
    )
    shapes = {name: shapes[name] for name in model.state_dict()}
    state: dict[str, Tensor] = {}
    integers = []
    done, total = 0, checkpoint.weights.nbytes
    for stored, whole in checkpoint.weights.items():
        kept = False
        for part, value in split_weight(model, stored, whole):
            name = module_name(model, part, shapes)
            if name is None:
                continue
            if name in state:  # in the file with and without the prefix: one is unexpected
                name = part if part != name else f"{model.base_model_prefix}.{part}"
            if is_transposed(model, name, value):
                value = value.mT  # a view: (in, out) as stored, (out, in) as nn.Linear has it
            if name in shapes and not value.dtype.is_floating_point:
                integers.append(f"  {name}: {value.dtype}")
            fits = shapes.get(name) == tuple(value.shape) and value.dtype.is_floating_point
            state[name] = convert(name, value) if fits else value
            kept = kept or state[name] is value
        if not kept:
            checkpoint.weights.release(stored)
        if progress is not None:
            done += whole.nbytes
            progress(done, max(done, total))
    if integers:
        raise StateDictError(
            f"{checkpoint.path}: weights must be floating-point numbers:\n" + "\n".join(integers)
        )
    tie_weights(model, state)
    try:
        model.load_state_dict(state, assign=True)
    except StateDictError as error:
        problems = str(error).replace(RENAME, "  fix: find the configuration of these weights")
        raise StateDictError(f"{checkpoint.path}: {problems}") from None
    # Converts the few weights of another dtype, and sets the dtype of rows of packed embeddings.
    model.to(dtype or compute_dtype(state))


def remove_absent_modules(model: PretrainedModel, names: Collection[str]) -> None:
    """Set optional modules without any weight among `names` to None."""
    for path in model.optional:
        if not any(name.startswith(path + ".") for name in names):
            parent, _, attribute = path.rpartition(".")
            setattr(model.get_submodule(parent), attribute, None)
            model.config.extra.pop("architectures", None)  # of the whole


def compute_dtype(state: Mapping[str, Tensor]) -> gradient.DType | None:
    """Return the dtype in which a model with these weights computes; None if all are packed.

    It is the one that most weights have, as files may hold matrices in 16 bits and norms in 32.
    Beside packed matrices it is the widest.
    """
    counts: dict[gradient.DType, int] = {}
    packed = False
    for value in state.values():
        packed = packed or value.dtype.is_packed
        if value.dtype.is_floating_point and not value.dtype.is_packed:
            counts[value.dtype] = counts.get(value.dtype, 0) + value.numel()
    if packed:
        return max(counts, key=lambda dtype: dtype.bits, default=None)
    return max(counts, key=counts.__getitem__, default=None)


def tie_weights(model: PretrainedModel, state: dict[str, Tensor]) -> None:
    """Give tied parameters both names in `state`; untie those that the checkpoint stores
    separately.

    As in transformers, two different matrices in a file override a config that ties them.
    """
    if not model.config.tie_word_embeddings:
        return
    names = model.state_dict().keys()
    for name, source in model.tied.items():
        if name not in names:  # an optional module's
            continue
        if name not in state and source in state:
            state[name] = state[source]
        elif source not in state and name in state:
            state[source] = state[name]
        elif name in state and not gradient.equal(state[name], state[source]):
            model.config.tie_word_embeddings = False
            path, _, attribute = name.rpartition(".")
            holder = model.get_submodule(path)
            setattr(holder, attribute, gradient.nn.Parameter(getattr(holder, attribute).detach()))


def check_loadable(model: PretrainedModel) -> None:
    """Raise if no model of this configuration could load the parameters of `model`, whose modules
    or sizes were changed."""
    try:
        with gradient.device("meta"):  # names and shapes alone, whatever the default device is
            plain = type(model)(copy.deepcopy(model.config))
    except TypeError:  # a class of the user's, with other arguments
        return
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    remove_absent_modules(plain, ours.keys())
    loaded = {name: tuple(value.shape) for name, value in plain.state_dict().items()}
    misfits = [f"  not in the config  {name} {ours[name]}" for name in ours if name not in loaded]
    misfits += [
        f"  missing            {name} {loaded[name]}" for name in loaded if name not in ours
    ]
    misfits += [
        f"  shape              {name} {ours[name]}, by the config {shape}"
        for name, shape in loaded.items()
        if ours.get(name, shape) != shape
    ]
    if misfits:
        more = [f"  ... and {len(misfits) - 20} more"] if len(misfits) > 20 else []
        fix = (
            "  fix: put adapters and the like into the weights first (w += scale * B @ A), and the "
            "plain modules back; or gradient.save(model.state_dict(), file)"
        )
        raise StateDictError(
            f"save: the parameters are not those of a {type(model).__name__} of this config, so it "
            "could not be loaded; nothing was written\n" + "\n".join([*misfits[:20], *more, fix])
        )


def save_model(
    model: PretrainedModel, folder: str | Path, *, max_shard_bytes: int = 5_000_000_000
) -> None:
    """Write config.json and safetensors into `folder`, for `load_model` and for transformers.

    Every file is written to a temporary file and renamed. A tied matrix is written once.

    Args:
        max_shard_bytes: split larger models into shards of at most this size, with an index.

    Raises:
        ArgumentError: the folder's name is that of a weight file, probably by mistake.
        StateDictError: the parameters are not those of `model.config`, as with an adapter inside;
            nothing is written.
        CheckpointError: the disk is full, read-only or failing; existing files are unchanged.
    """
    folder = Path(folder)
    if folder.suffix in (".gguf", ".safetensors", ".bin", ".pt", ".pth"):
        other = "`gradient convert` writes GGUF" if folder.suffix == ".gguf" else "leave that out"
        raise ArgumentError(
            f"save: expected a folder's name, got {str(folder)!r}, which ends as a file's does: "
            f"a folder with config.json and model.safetensors is written; {other}"
        )
    check_loadable(model)
    folder.mkdir(parents=True, exist_ok=True)
    written = save_sharded(to_checkpoint(model), folder, max_shard_bytes=max_shard_bytes)
    config = {
        "architectures": [model.architecture],
        **model.config.to_hf(),
        "dtype": model.dtype.name,
    }
    atomic.write_text(folder / CONFIG_NAME, json.dumps(config, indent=2) + "\n")
    # Files of an earlier save with another number of shards would be loaded instead of these.
    for path in {*folder.glob("model*.safetensors"), *folder.glob("model*.safetensors.index.json")}:
        if path not in written:
            path.unlink()
