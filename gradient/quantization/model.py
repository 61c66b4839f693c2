"""Pack the weights of a model that is in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gradient import nn
from gradient.dtypes import PackedDType
from gradient.errors import ArgumentError
from gradient.io.free_memory import warn_if_larger
from gradient.quantization.quantize import quantize
from gradient.quantization.schemes import Scheme, layer_of, role_of, scheme_of
from gradient.tensor import Tensor

__all__ = ["packed_dtypes", "quantize_", "quantizer"]

M = TypeVar("M", bound=nn.Module)


def quantize_(
    model: M,
    scheme: Scheme | PackedDType | str,
    progress: Callable[[str, PackedDType], None] | None = None,
) -> M:
    """Pack the weights of a model's linear layers, embeddings and experts, in place.

    One weight is packed at a time and replaces the old one at once, in every module that
    shares it: tied weights stay tied. Packed weights are not trained; weights that the scheme does
    not pack (norms, biases, routers) can be. Weights that are already packed are kept.

    Args:
        scheme: "q8_0", "q4_0", "q4_k_m", "q6_k", "int8", "int4" or another of `SCHEMES`.
        progress: called with each weight's name and dtype after it is packed.

    Returns:
        The model.

    Raises:
        ArgumentError: no such scheme; or a weight is not finite.
    """
    dtypes = packed_dtypes(model, scheme)
    for shared in _shared_weights(model):
        name, module = shared[0]
        if name not in dtypes or not module.weight.dtype.is_floating_point:
            continue
        packed = quantize(module.weight.detach(), dtypes[name])
        parameter = nn.Parameter(packed, requires_grad=False)
        for name, module in shared:
            module.weight = parameter
            if progress is not None:
                progress(name, dtypes[name])
    return model


def packed_dtypes(model: nn.Module, scheme: Scheme | PackedDType | str) -> dict[str, PackedDType]:
    """Return the weights of a model that `quantize_` would pack, by name, with their dtypes.

    Only names and shapes count, so the weights need not be loaded yet.
    """
    chosen = scheme_of(scheme)
    weights = _shared_weights(model)
    names = [name for shared in weights for name, _ in shared]
    n_layers = 1 + max((layer_of(name) or 0 for name in names), default=0)
    n_experts = _experts(model)
    dtypes: dict[str, PackedDType] = {}
    for shared in weights:
        weight = shared[0][1].weight
        roles = [role_of(name) for name, _ in shared]
        if weight.dtype.is_packed or "fixed" in roles:
            continue
        dtype = chosen(
            shared[0][0],
            tuple(weight.shape),
            n_layers,
            tied="output" in roles or len(shared) > 1 and "embedding" in roles,
            n_experts=n_experts,
        )
        if dtype is not None:
            dtypes |= {name: dtype for name, _ in shared}
    return dtypes


def quantizer(
    scheme: Scheme | PackedDType | str,
) -> Callable[[nn.Module], Callable[[str, Tensor], Tensor]]:
    """Return the `converter` of `load_model` that packs each weight as it is read, by `scheme`.

    Called with the model, before its weights are loaded, it returns a function from a weight's name
    and values to the packed weight. Weights that are already packed are kept.
    """
    chosen = scheme_of(scheme)

    def for_model(model: nn.Module) -> Callable[[str, Tensor], Tensor]:
        dtypes = packed_dtypes(model, chosen)
        packed_bytes = sum(
            dtypes[name].nbytes(tuple(each.shape)) if name in dtypes else each.nbytes
            for name, each in model.named_parameters()
        )
        warn_if_larger(type(model).__name__, made=packed_bytes)

        def pack(name: str, value: Tensor) -> Tensor:
            if name not in dtypes or value.dtype.is_packed:
                return value
            try:
                return quantize(value, dtypes[name])
            except ArgumentError as error:
                raise ArgumentError(f"{name}: {error}") from None

        return pack

    return for_model


def _shared_weights(model: nn.Module) -> list[list[tuple[str, nn.Linear | nn.Embedding]]]:
    """Return the weights that can be packed: for each, every name and module that has it."""
    places: dict[int, list[tuple[str, nn.Linear | nn.Embedding]]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Linear | nn.Embedding):
            if getattr(module, "max_norm", None) is not None:  # a look-up changes the row
                continue
            name = f"{path}.weight" if path else "weight"
            places.setdefault(id(module.weight), []).append((name, module))
    return list(places.values())


def _experts(model: nn.Module) -> int:
    """The number of experts in a layer of the model."""
    lists = [m for path, m in model.named_modules() if path.endswith("experts")]
    return max((len(m) for m in lists if isinstance(m, nn.ModuleList)), default=0)
