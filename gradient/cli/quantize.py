"""`gradient quantize`: a model with its weights in fewer bits."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli.convert import Opened, Source, check_free, report
from gradient.cli.progress import byte_progress
from gradient.dtypes.names import floating_dtype

if TYPE_CHECKING:
    import gradient
    from gradient.quantization.schemes import Scheme
    from gradient.tensor import Tensor


def quantize(
    source: Source,
    destination: Annotated[
        Path,
        typer.Argument(
            parser=opt.named_path,
            metavar="destination",
            help="What to write: a file that ends in .gguf, or for gradient alone a folder. It "
            "must not exist.",
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="q8_0, q6_k, q5_k_m, q4_k_m, q4_0 and other formats of GGUF; in a folder int8 "
            "and int4 too.",
        ),
    ] = "q4_k_m",
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            help="Store matrices that are not packed as f32, f16 or bf16.",
            show_default="as they are",
        ),
    ] = None,
    tokenizer: opt.Tokenizer = None,
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Pack a model's matrices, with each weight rounded to the nearest value of the format.

    Norms, biases and other small tensors are not changed.
    """
    from gradient.quantization.schemes import scheme_of

    scheme = scheme_of(to)
    wanted = None if dtype is None else floating_dtype(dtype)
    as_gguf = destination.suffix == ".gguf"
    if as_gguf:
        _check_gguf(scheme)
    check_free(destination)
    began = time.perf_counter()
    where: dict[str, Any] = {"revision": revision, "offline": offline}
    if as_gguf:
        model = Opened(source, tokenizer, **where)
        with byte_progress("packing", quiet=as_json) as progress:
            choose = _chooser(scheme, model, wanted)
            how: dict[str, Any] = {"choose": choose, "cast": _cast, "mostly": scheme.dtype}
            sizes = model.write_gguf(destination, progress, **how)
    else:
        from gradient.quantization import quantizer

        with byte_progress("packing", quiet=as_json) as progress:
            model = Opened(
                source,
                tokenizer,
                dtype=wanted,
                converter=quantizer(scheme),
                progress=progress,
                **where,
            )
        _check_packed(scheme, model)
        sizes = model.write_folder(destination)
    report(source, destination, model, sizes, time.perf_counter() - began, as_json)


def _check_gguf(scheme: Scheme) -> None:
    from gradient.errors import ArgumentError
    from gradient.io.gguf.types import PACKED_NAMES

    if scheme.dtype.name.upper() not in PACKED_NAMES:
        raise ArgumentError(
            f"quantize: GGUF has no format {scheme.name!r}; give a folder as destination, or one "
            f"of {', '.join(name.lower() for name in PACKED_NAMES)}, q4_k_m, q5_k_m"
        )


def _check_packed(scheme: Scheme, opened: Opened) -> None:
    """Refuse to write a folder whose packed weights are unchanged ones of the source, in a format
    that was not requested.

    Raises:
        ArgumentError: with the formats that they have.
    """
    from gradient.errors import ArgumentError

    packed = [(n, p) for n, p in opened.model.named_parameters() if p.dtype.is_packed]
    formats = {p.dtype for _, p in packed}
    asked = {scheme(name, tuple(p.shape)) for name, p in packed}
    if scheme.dtype in asked and scheme.dtype not in formats:
        raise ArgumentError(
            f"quantize: the model's weights are packed already "
            f"({', '.join(sorted(dtype.name for dtype in formats))}), which a folder keeps; to "
            f"have {scheme.name}, give the model that it was packed from, or a .gguf file as "
            "destination, which rounds them once more"
        )


def _chooser(
    scheme: Scheme, opened: Opened, wanted: gradient.DType | None
) -> Callable[[str, tuple[int, ...], gradient.DType], gradient.DType]:
    """Return a function of the name, shape and stored dtype of a matrix: the scheme's dtype, if it
    has one for it; else the stored one, or, if that is not packed, the wanted one."""
    from gradient.quantization.schemes import layer_of

    model = opened.model
    names = [name for name, _ in model.named_parameters()]
    layers = 1 + max((layer_of(name) or 0 for name in names), default=0)
    experts = [int(part) for name in names if (part := _expert(name))]

    def choose(name: str, shape: tuple[int, ...], stored: gradient.DType) -> gradient.DType:
        return scheme(
            name,
            shape,
            layers,
            tied=bool(model.config.tie_word_embeddings),
            n_experts=1 + max(experts, default=-1),
        ) or (stored if wanted is None or stored.is_packed else wanted)

    return choose


def _expert(name: str) -> str:
    """The number of a weight's expert, as text; "" if it has none."""
    _, found, rest = name.partition(".experts.")
    return rest.split(".")[0] if found else ""


def _cast(x: Tensor, dtype: gradient.DType) -> Tensor:
    from gradient.checkpoints.gguf.save import to_dtype
    from gradient.dtypes import PackedDType
    from gradient.quantization import quantize

    return quantize(x, dtype) if isinstance(dtype, PackedDType) else to_dtype(x, dtype)
