"""Estimates the memory of generation, before a model is loaded.

Weights and cache are counted from shapes. For activations, a chunk of the prompt and a step are
recorded as plans, in passes of few tokens (`planned_memory`). Plans do not show the scratch memory
of kernels (keys and values in 32 bits, a weight cast to them): two fitted terms estimate it.
With `measure`, a separate process runs the last chunk of a prompt of that length.

Both run a model with only those layers that differ from one another, without values: layers run
one after another and reuse memory, so a few are enough.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gradient
from gradient import nn, quantization
from gradient.checkpoints import Checkpoint, load_model, open_checkpoint
from gradient.dtypes import PackedDType
from gradient.dtypes.names import floating_dtype
from gradient.errors import ArgumentError, BackendError
from gradient.evaluation.planned_memory import pass_bytes
from gradient.generation.prefill import CHUNK, feed
from gradient.kv_cache import KVCache
from gradient.models.causal_lm import CausalLM, KVShape

#: The default number of tokens in a row; present models may take 100 times as many.
USUAL_CONTEXT = 2048


@dataclass(frozen=True)
class MemoryForecast:
    """The peak memory of a process that generates, in bytes.

    Attributes:
        program: Python, its libraries, the compiled kernels and the tokenizer.
        weights: the model's, as they are in memory. Rows of an embedding count only when they are
            looked up, so a mapped embedding that is not the output layer is left out.
        cache: keys and values of `context` tokens for `batch` rows.
        working: temporary memory beside these.
    """

    context: int
    batch: int
    program: int
    weights: int
    cache: int
    working: int

    @property
    def total(self) -> int:
        """The sum: the peak."""
        return self.program + self.weights + self.cache + self.working


class _Settings(NamedTuple):
    """The arguments of `forecast`."""

    path: str
    context: int | None
    batch: int
    dtype: str | None
    quantize: str | None
    cache: str
    cache_dtype: str | None


def forecast(
    path: str | Path,
    *,
    context: int | None = None,
    batch: int = 1,
    dtype: str | None = None,
    quantize: str | None = None,
    cache: str = "static",
    cache_dtype: str | None = None,
    measure: bool = False,
) -> MemoryForecast:
    """Estimate the peak memory of generating with the model in a folder or file, on the CPU.

    The first use of a kernel on a machine compiles it, which takes some 50 MB more, once.

    Args:
        context: tokens of each row, prompt and generated ones; None: the model's trained length,
            but at most 2048.
        batch: rows.
        dtype, quantize: as in `gradient.hub.load`.
        cache, cache_dtype: the cache's kind and dtype, as in `KVCache.for_model`.
        measure: run some layers on as many tokens instead of planning. This takes some seconds, and
            is within 5 % of the peak; plans are within 10 % of that.

    Raises:
        ArgumentError: a context of less than two tokens, or of more than the model's limit;
            no rows; or an argument that the model refuses.
        BackendError: the measuring process failed; the message has its output.
    """
    if (context is not None and context < 2) or batch < 1:
        raise ArgumentError(
            "memory forecast: expected a context of at least 2 tokens and 1 row, "
            f"got {context} and {batch}"
        )
    settings = _Settings(str(path), context, batch, dtype, quantize, cache, cache_dtype)
    if not measure:
        return _planned(settings)
    # The first process compiles kernels that were never used, which takes additional memory.
    _measured(settings)
    return _measured(settings)


#: Python, its libraries and the kernels of generation (Python 3.11 and numba on Linux).
PROGRAM = 163_000_000
#: Bytes of a tokenizer for each of its pieces.
PIECE = 335
#: Rows of activations beyond which 16-bit weights are cast to float32, one at a time.
CAST_ROWS = 512


def _planned(settings: _Settings) -> MemoryForecast:
    """The estimate by plans, which reads no weights.

    The scratch memory of kernels is fitted to the results of `_measure` for models of 50 to 150
    million weights, in 32 and 16 bits and packed, of 64 to 2,048 tokens, in one to four rows.
    """
    checkpoint = open_checkpoint(settings.path)
    model = _mapped(checkpoint)
    context, batch = _context(model, settings), settings.batch
    packed, target = _choice(model, settings)
    weights = weight_bytes(model, packed, target)
    program = PROGRAM
    if checkpoint.has_tokenizer:
        program += PIECE * model.config.vocab_size
    counted = cache_bytes(model, context - 1, batch, settings, target)
    chunk = min(CHUNK, context - 1)
    kernels = 0
    config = model.config
    if target.itemsize < 4 or packed or any(p.dtype.is_packed for p in model.parameters()):
        heads = getattr(config, "num_attention_heads", None) or config.n_head
        kernels += 12 * heads * model.kv_shapes[0].head_size * context  # keys, values in 32 bits
        if batch * chunk > CAST_ROWS:
            C = getattr(config, "hidden_size", None) or config.n_embd
            wide = getattr(config, "intermediate_size", None) or 4 * C
            expert = getattr(config, "moe_intermediate_size", None) or wide
            wide = max(wide, expert * (getattr(config, "num_experts_per_tok", None) or 1))
            kernels += 4 * C * wide
    empty_weights(model, {}, target, unpacked=True)
    kept = keep_distinct_layers(model)

    def cache() -> KVCache:
        return KVCache(
            model.kv_shapes[:kept],
            batch,
            kind=settings.cache,
            dtype=settings.cache_dtype or target,
            capacity=context - 1,
            limit=model.context_length,
        )

    working = kernels + max(pass_bytes(model, cache, batch, n) for n in (chunk, 1))
    return MemoryForecast(context, batch, program, weights, counted, working)


def cache_bytes(
    model: CausalLM, tokens: int, batch: int, settings: _Settings, dtype: gradient.DType
) -> int:
    """Bytes of a cache: those of one head of one row for each kind of layer, many times."""
    total = 0
    kinds: dict[tuple[int, int | None], int] = {}
    for heads, size, window in model.kv_shapes:
        kinds[size, window] = kinds.get((size, window), 0) + heads
    for (size, window), heads in kinds.items():
        some = tokens if window is not None else min(tokens, USUAL_CONTEXT)
        held = KVCache(
            [KVShape(1, size, window)],
            1,
            kind=settings.cache,
            dtype=settings.cache_dtype or dtype,
            capacity=some,
        )
        held.begin(some).commit()
        total += held.nbytes * heads * batch * tokens // some
    return total


def _mapped(checkpoint: Checkpoint) -> CausalLM:
    """The model with mapped weights that are not read; it may be larger than memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(checkpoint)
    if not isinstance(model, CausalLM):
        raise ArgumentError(
            f"memory forecast: {model.architecture} is an encoder: "
            "it generates nothing and has no cache"
        )
    return model


def _context(model: CausalLM, settings: _Settings) -> int:
    """The requested tokens of a row, or the default."""
    context, limit = settings.context, model.context_length
    if context is None:
        return min(USUAL_CONTEXT, model.trained_length or USUAL_CONTEXT)
    if limit is not None and context > limit:
        raise ArgumentError(
            f"memory forecast: context: expected at most the model's {limit}, got {context}"
        )
    return context


def _choice(model: CausalLM, settings: _Settings) -> tuple[dict[str, PackedDType], gradient.DType]:
    """The packed dtypes of weights by name, and the dtype of other weights and of computing."""
    dtype = None if settings.dtype is None else floating_dtype(settings.dtype)
    packed: dict[str, PackedDType] = {}
    if settings.quantize is not None:
        packed = quantization.packed_dtypes(model, settings.quantize)
    return packed, dtype or model.dtype


def _measured(settings: _Settings) -> MemoryForecast:
    """Run `_measure` in a separate process."""
    # The same modules as here, whatever is in the current folder.
    program = f"import sys; sys.path[:] = {sys.path!r}\n"
    program += "from gradient.evaluation.memory import _main; _main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(settings._asdict()),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise BackendError(f"memory forecast: the measuring process failed: {last[0]}") from None
    if "error" in answer:
        raise ArgumentError(answer["error"])
    return MemoryForecast(**answer)


def _main() -> None:
    """Read settings from standard input; print an estimate, or an error, as JSON."""
    try:
        answer: dict[str, Any] = asdict(_measure(_Settings(**json.loads(sys.stdin.read()))))
    except BackendError:
        raise  # an error of the measurement, not of the settings
    except gradient.errors.GradientError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


@gradient.no_grad()
def _measure(settings: _Settings) -> MemoryForecast:
    batch = settings.batch
    checkpoint = open_checkpoint(settings.path)
    model = _mapped(checkpoint)
    with contextlib.suppress(gradient.errors.GradientError):  # it may have no readable tokenizer
        tokenizer = checkpoint.load_tokenizer()
        # The memory for its vocabulary, from the first use on.
        tokenizer.decode(tokenizer.encode("Once upon a time"))
        tokenizer.stream().push(0)
    forget_peak()  # reading a vocabulary takes more for a moment, before the weights are there
    context, limit = _context(model, settings), model.context_length
    packed, target = _choice(model, settings)
    weights = weight_bytes(model, packed, target)
    empty_weights(model, packed, target)
    kept = keep_distinct_layers(model)

    def cache_of(rows: int, tokens: int, layers: int) -> KVCache:
        return KVCache(
            model.kv_shapes[:layers],
            rows,
            kind=settings.cache,
            dtype=settings.cache_dtype or target,
            capacity=tokens,
            limit=limit,
        )

    few = min(8, context - 1)
    feed(model, cache_of(1, few, kept), [[0] * few])  # imports and compiles
    feed(model, cache_of(1, 1, kept), [[0]])
    chunk = min(CHUNK, context - 1)
    feed(model, cache_of(batch, chunk, kept), [[0] * chunk] * batch)  # the first chunk
    held = cache_of(batch, context - 1, kept)
    # As if the chunks before had been read; one column is left, as for most of a generation: a
    # part of a buffer is not contiguous, for which there are kernels of their own.
    if context - 2 > chunk:
        held.begin(context - 2 - chunk).commit()
    else:
        chunk = max(context - 2, 1)
    feed(model, held, [[0] * chunk] * batch)
    if context > 2:
        feed(model, held, [[0]] * batch)  # a step
    peak = resident("VmHWM")
    del held
    program = resident("VmRSS")  # only now: there are kernels that a few tokens do not need
    working = max(peak - program, 0)
    program -= panel_bytes(model)  # `weights` has those of all layers

    whole = cache_of(batch, context - 1, len(model.kv_shapes))
    whole.begin(context - 1).commit()
    return MemoryForecast(context, batch, program, weights, whole.nbytes, working)


def weight_bytes(model: CausalLM, packed: dict[str, PackedDType], dtype: gradient.DType) -> int:
    """Bytes of a model's weights after packing or conversion."""
    total = 0
    looked_up = _only_looked_up(model)
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        if parameter.dtype.is_packed:
            size = parameter.nbytes
        elif name in packed:
            size = packed[name].nbytes(shape)
            if name not in looked_up:
                size *= 2  # the packed blocks, and the panels for products
        else:
            size = parameter.numel() * dtype.itemsize
        mapped = name not in packed and (parameter.dtype is dtype or parameter.dtype.is_packed)
        if not (mapped and name in looked_up):
            total += size
    return total


def panel_bytes(model: CausalLM) -> int:
    """The approximate bytes of the panels for products with a model's packed weights on the CPU."""
    weights = {id(m.weight): m.weight for m in model.modules() if isinstance(m, nn.Linear)}
    return sum(weight.nbytes for weight in weights.values() if weight.dtype.is_packed)


def _only_looked_up(model: nn.Module) -> set[str]:
    """Names of the matrices that are only embeddings."""
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    return {
        f"{path}.weight"
        for path, module in model.named_modules()
        if isinstance(module, nn.Embedding) and id(module.weight) not in linear
    }


def empty_weights(
    model: CausalLM,
    packed: dict[str, PackedDType],
    dtype: gradient.DType,
    *,
    unpacked: bool = False,
) -> None:
    """Replace a model's weights by ones of the right dtypes that take no memory.

    With `unpacked`, packed weights become unpacked ones, as products would make panels of them.
    """
    made: dict[int, nn.Parameter] = {}
    for path, module in model.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in made:
                full = f"{path}.{name}" if path else name
                own = dtype if unpacked else parameter.dtype
                empty = _empty(tuple(parameter.shape), packed.get(full), own, dtype)
                made[id(parameter)] = nn.Parameter(empty, requires_grad=False)
            setattr(module, name, made[id(parameter)])
    model.to(dtype)


def _empty(
    shape: tuple[int, ...], packed: PackedDType | None, own: gradient.DType, dtype: gradient.DType
) -> gradient.Tensor:
    kind = own if isinstance(own, PackedDType) else packed
    if kind is None:
        return gradient.from_numpy(_untouched(shape, dtype.numpy))
    parts = tuple(_untouched(size, numpy) for size, numpy in kind.parts_of(shape))
    return quantization.packed_tensor(parts, kind, shape)


def _untouched(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that take no memory: the system maps one page of zeros until something is written."""
    size = math.prod(shape) * dtype.itemsize
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return np.zeros(shape, dtype)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, max(size, 1), flags=flags)
    return np.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)


def keep_distinct_layers(model: CausalLM) -> int:
    """Keep only the first layers of a model, until every kind of layer has occurred once.

    Returns:
        The number of kept layers.
    """
    for module in model.modules():
        for name, layers in list(module.named_children()):
            if isinstance(layers, nn.ModuleList) and len(layers) == len(model.kv_shapes):
                kinds = [
                    (shape, [(n, tuple(p.shape), p.dtype) for n, p in layer.named_parameters()])
                    for shape, layer in zip(model.kv_shapes, layers, strict=True)
                ]
                last = max(at for at, kind in enumerate(kinds) if kind not in kinds[:at])
                setattr(module, name, nn.ModuleList(list(layers)[: last + 1]))
                return last + 1
    return len(model.kv_shapes)


def resident(field: str) -> int:
    """Bytes of this process in memory: now ("VmRSS"), or the peak so far ("VmHWM").

    Without /proc, both are the peak.

    Raises:
        BackendError: the system does not report it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:
        raise BackendError(
            "memory forecast: memory can be measured on Linux and macOS, not here"
        ) from None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def forget_peak() -> None:
    """Reset "VmHWM" to the present memory, if the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
