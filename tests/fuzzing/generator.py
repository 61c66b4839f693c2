"""Draw programs: PyTorch runs each statement as it is drawn, so that the next one can fit."""

from __future__ import annotations

import contextlib
import functools
import random
import warnings
from pathlib import Path
from typing import Any

import torch

import gradient
from fuzzing import rows, schemas
from fuzzing.draw import Broken, Draw, Skip
from fuzzing.interpreter import World
from fuzzing.program import (
    PREFIXES,
    Array,
    Dtype,
    Program,
    Ref,
    Statement,
    mapped,
    refs,
    with_changed,
)

EXCLUDED = {  # fmt: skip
    **dict.fromkeys(
        """
atleast_1d atleast_2d atleast_3d conj conj_physical deg2rad fliplr positive rad2deg
ger isreal resolve_conj resolve_neg row_stack trapz
        """.split(),  # noqa: SIM905
        "drawn without a difference; other names of what the list has, whose places are few",
    ),
    **dict.fromkeys(
        ("cross", "diff", "histc", "hsplit", "mode", "vsplit"),
        "compared with PyTorch in test_op_db.py; what differs is seldom, and not yet looked at",
    ),
    **dict.fromkeys(
        ("angle", "copysign", "dist", "float_power", "renorm", "sinc"),
        "PyTorch's second derivative where they are not smooth is NaN, or what rounding leaves",
    ),
    **dict.fromkeys(
        ("new", "new_empty_strided", "resize_", "resize_as_"),
        "what is new in them is whatever memory holds",
    ),
    **dict.fromkeys(("apply_", "map_", "map2_"), "take functions of Python"),
    **dict.fromkeys(
        ("unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes"),
        "PyTorch does not track what they share",
    ),
    "const_data_ptr": "addresses differ",
    **dict.fromkeys(("storage", "untyped_storage"), "give no tensor: test_storages.py"),
    **dict.fromkeys(
        ("to_sparse", "to_sparse_coo", "to_sparse_csr"), "sparse tensors are in test_sparse.py"
    ),
    "dim_order": "gives no tensor, compared in test_late_methods.py",
    "histogram": "PyTorch's counts require a gradient, which it then has not",
    "set_": "of a tensor in the graph PyTorch keeps the node",
    **dict.fromkeys(("corrcoef", "logaddexp2"), "rounded differently near 0"),
    **dict.fromkeys(("index_put", "put"), "which of several writes to a place wins is not defined"),
    **dict.fromkeys(("std_mean", "var_mean"), "functions of PyTorch, methods of ours too"),
    "addmv": "of a matrix without rows PyTorch's result has the input's size",
    "addr": "PyTorch's gradient refuses dtypes that the function takes",
    "cov": "PyTorch 2.13 overwrites the weights",
    "gradient": "PyTorch reads beyond the end of coordinates that are too few",
    "isin": "what assume_unique gives for repeated elements is not defined",
    "kron": "keeps its inputs for the gradient, PyTorch copies of them",
    "ldexp": "PyTorch's gradient has an integer power, which is 0 below 1",
    "logcumsumexp": "PyTorch's gradient beside infinities is NaN",
    "nanmedian": "PyTorch 2.13 reads beyond the memory of expanded tensors",
    "nanquantile": "which of equal elements has the gradient is not defined",
    **dict.fromkeys(
        """
digamma digamma_ lgamma lgamma_ mvlgamma mvlgamma_ polygamma polygamma_
        """.split(),  # noqa: SIM905
        "PyTorch's trigamma has nine digits, and is finite at its poles",
    ),
    **dict.fromkeys(
        ("igamma", "igamma_", "igammac", "igammac_"),
        "to nine digits in PyTorch, and in float32 to four",
    ),
    **dict.fromkeys(("i0", "i0_"), "PyTorch has no gradient of it in 16 bits"),
    "cuda": "this machine may have a GPU or none",
    "type": "PyTorch answers with the name of a legacy class",
    "searchsorted": "a function of PyTorch, a method of ours",
    "broadcast_tensors": "takes its tensors one by one, not as the declaration says",
    "backward": "the comparison calls it",
    "retain_grad": "changes what is compared",
    "result_type": "takes any number of operands, by position",
    "initial_seed": "of random numbers",
    "seed": "of random numbers",
    **dict.fromkeys(
        (
            "broadcast_shapes",
            "can_cast",
            "compile",
            "get_quantized_matmul_precision",
            "set_quantized_matmul_precision",
            "from_dlpack",
            "from_numpy",
            "get_default_device",
            "get_default_dtype",
            "set_default_device",
            "get_num_threads",
            "get_rng_state",
            "is_grad_enabled",
            "is_inference_mode_enabled",
            "is_tensor",
            "load",
            "manual_seed",
            "promote_types",
            "save",
            "set_default_dtype",
            "set_num_threads",
            "set_printoptions",
            "set_rng_state",
            "data_ptr",
            "numpy",
            "is_shared",
            "share_memory_",
        ),
        "about the package, or about other things than tensors",
    ),
    **dict.fromkeys(
        (
            "cholesky",
            "cholesky_inverse",
            "cholesky_solve",
            "det",
            "geqrf",
            "inverse",
            "logdet",
            "lu",
            "lu_solve",
            "lu_unpack",
            "matrix_exp",
            "matrix_power",
            "ormqr",
            "pca_lowrank",
            "pinverse",
            "qr",
            "slogdet",
            "svd",
            "svd_lowrank",
            "triangular_solve",
        ),
        "random matrices are near to singular ones, where few digits are defined",
    ),
    **dict.fromkeys(
        ("register_hook", "register_post_accumulate_grad_hook", "vmap"), "takes a function"
    ),
    **dict.fromkeys(
        ("nn.functional.attention", "nn.functional.cdist", "nn.functional.grouped_linear"),
        "not a function of PyTorch's namespace of this name",
    ),
    **dict.fromkeys(
        (
            "fork_rng",
            "geometric_",
            "nn.functional.feature_alpha_dropout",
            "nn.functional.fractional_max_pool2d",
            "nn.functional.fractional_max_pool2d_with_indices",
            "nn.functional.fractional_max_pool3d",
            "nn.functional.fractional_max_pool3d_with_indices",
            "nn.functional.gumbel_softmax",
            "nn.functional.rrelu",
        ),
        "random",
    ),
    **dict.fromkeys(
        (
            "cdouble",
            "cfloat",
            "complex",
            "imag",
            "is_complex",
            "is_conj",
            "is_neg",
            "istft",
            "polar",
            "real",
            "stft",
            "view_as_complex",
            "view_as_real",
        ),
        "about complex numbers, which programs do not hold",
    ),
    **dict.fromkeys(
        ("bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window"),
        "computed in float64 and rounded once, where PyTorch's are sums of float32",
    ),
    **dict.fromkeys(("is_pinned", "pin_memory", "record_stream"), "needs a device in PyTorch"),
    "as_subclass": "takes a class, of which PyTorch's would be another",
    "ndimension": "PyTorch declares no types of its arguments; dim is drawn",
    **dict.fromkeys(
        (
            "nn.functional.affine_grid",
            "nn.functional.ctc_loss",
            "nn.functional.embedding_bag",
            "nn.functional.grid_sample",
            "nn.functional.max_unpool1d",
            "nn.functional.max_unpool2d",
            "nn.functional.max_unpool3d",
            "nn.functional.multi_head_attention_forward",
        ),
        "sizes and integers that depend on each other",
    ),
    **dict.fromkeys(
        (
            "nn.functional.upsample",
            "nn.functional.upsample_bilinear",
            "nn.functional.upsample_nearest",
        ),
        "PyTorch warns of an old name; interpolate is drawn",
    ),
    "nn.functional.pdist": "PyTorch declares no types of its arguments; cdist is drawn",
}
"""What is not drawn, and why."""


@functools.cache
def catalogue() -> dict[str, str]:
    """Every public function and method: "function", "method" or "both", by name."""
    found: dict[str, set[str]] = {}
    for name in dir(gradient):
        value = getattr(gradient, name)
        if name.startswith("_") or not callable(value) or isinstance(value, type):
            continue
        found.setdefault(name, set()).add("function")
    for name in dir(gradient.Tensor):
        if not name.startswith("_") and callable(getattr(gradient.Tensor, name)):
            found.setdefault(name, set()).add("method")
    for name in dir(gradient.nn.functional):
        if not name.startswith("_") and callable(getattr(gradient.nn.functional, name)):
            found.setdefault(f"nn.functional.{name}", set()).add("function")
    for name in rows.ROWS:
        found.setdefault(name, set()).add("row")
    return {
        name: "both" if len(forms & {"function", "method"}) == 2 else min(forms)
        for name, forms in found.items()
    }


@functools.cache
def drawable() -> tuple[str, ...]:
    """Those of the catalogue that can be drawn."""
    known = schemas.declarations()
    return tuple(
        name
        for name in catalogue()
        if name not in EXCLUDED and (name in rows.ROWS or (name in known and hasattr_torch(name)))
    )


NAMES = Path(__file__).with_name("names.txt")

GONE = "gone"
"""The form of a name that is no longer public: its line keeps the places of those behind it."""


@functools.cache
def listed() -> dict[str, str]:
    """The names that programs are drawn from, and the form of each, in the order of names.txt."""
    rows = (line.split(maxsplit=1) for line in NAMES.read_text().splitlines())
    return {name: form for form, name in rows}


def with_room(names: tuple[str | None, ...], places: int) -> tuple[str | None, ...]:
    """The names, then free places. A place that is free is drawn again, so that a name which takes
    one leaves the programs of a seed as they were, but for those that had drawn that place."""
    assert len(names) <= places
    return names + (None,) * (places - len(names))


def hasattr_torch(name: str) -> bool:
    return hasattr(torch, name) or hasattr(torch.Tensor, name)


VIEWS = ("getitem", "transpose", "unsqueeze", "narrow", "diagonal", "view", "reshape", "select",
         "expand", "squeeze", "flatten", "permute", "unfold", "attr.T", "split", "unbind", "chunk",
         "movedim", "swapaxes", "t", "unflatten", "detach", "view_as", "tensor_split", "attr.mT",
         "contiguous", "to")  # fmt: skip
WRITES = ("setitem", "inplace operator", "mul_", "zero_", "add_", "copy_", "fill_", "sin_",
          "masked_fill_", "index_add_", "scatter_", "addcmul_", "clamp_", "sub_", "div_", "tanh_",
          "relu_", "index_fill_", "lerp_", "setitem", "exp_", "pow_")  # fmt: skip
PLAIN = ("operator", "exp", "clone", "sum", "mul", "detach", "cat", "stack", "where", "operator")


def choices(style: str) -> tuple[str | None, ...]:
    every = tuple(None if form == GONE else name for name, form in listed().items())
    if style == "views":
        return VIEWS * 2 + WRITES * 2 + PLAIN
    if style == "indices":
        return (
            ("getitem", "setitem") * 8
            + ("gather", "scatter", "index_select", "where", "masked_fill_")
            + PLAIN
        )
    if style == "functional":
        functions = tuple(
            None if form == GONE else name
            for name, form in listed().items()
            if name.startswith("nn.")
        )
        return with_room(functions, 128) + ("module",) * 12 + PLAIN
    return with_room(every, 1024) + ("operator", "getitem", "setitem", "module") * 4


STYLES = {"any": 10, "views": 3, "indices": 3, "functional": 4}


def draw_statement(draw: Draw, name: str) -> Statement:
    if name in rows.ROWS:
        return rows.ROWS[name](draw)
    form = listed()[name]
    if form == "both":
        form = draw.rng.choice(("function", "method"))
    return schemas.statement(draw, name, form)


def spoiled(rng: random.Random, statement: Statement) -> Statement:
    """The same call with one argument that it cannot take, or one that it does not have."""
    args, options = list(statement.args), dict(statement.options)
    wrong = rng.choice((None, "no", -7, 9, 2.5, (1, 2, 3, 4, 5), [], Dtype("int64"), True,
                        Array((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0), (7,), "float64"),
                        Array((1, 2), (2,), "int64"), Array(True, (), "bool")))  # fmt: skip
    kind = rng.random()
    if kind < 0.15 and statement.function not in PREFIXES and "item" not in statement.function:
        options["dtpye" if rng.random() < 0.5 else "dim_"] = wrong
        if not options_allowed(statement):
            raise Skip
    elif kind < 0.25 and options_allowed(statement):
        args.append(wrong)
    elif options and rng.random() < 0.5:
        options[rng.choice(list(options))] = wrong
    elif len(args) > 1:
        args[rng.randrange(1, len(args))] = wrong
    else:
        raise Skip
    random = statement.random or statement.function.rpartition(".")[2] in schemas.RANDOM
    return Statement(statement.function, tuple(args), options, random)


def options_allowed(statement: Statement) -> bool:
    name = statement.function
    return (
        name[0].isalpha()
        and name not in ("getitem", "setitem", "array", "item", "call", "neg", "pos", "invert")
        and not name.startswith("attr.")
        or name[0] == "."
    )


def pruned(program: list[Statement]) -> Program:
    """The program without new tensors that nothing refers to."""
    used = {r.index for s in program for r in refs(s)}
    kept = [i for i, s in enumerate(program) if s.function != "array" or i in used]
    at = {old: new for new, old in enumerate(kept)}

    def renumber(value: Any) -> Any:
        return Ref(at[value.index], value.item) if isinstance(value, Ref) else value

    return tuple(with_changed(program[i], renumber) for i in kept)


def program(seed: int) -> Program:
    rng = random.Random(seed)
    draw = Draw(rng, World(torch))
    style = rng.choices(list(STYLES), list(STYLES.values()))[0]
    names = choices(style)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(rng.randint(1, 2)):
            draw.new(nonempty(rng))
        with contextlib.suppress(Broken):
            for _ in range(rng.randint(2, 9)):
                attempt(draw, names)
    return pruned(draw.statements)


def nonempty(rng: random.Random) -> tuple[int, ...]:
    from fuzzing import numbers

    shape = numbers.shape(rng)
    return shape if 0 not in shape or rng.random() < 0.2 else (2, 3)


def attempt(draw: Draw, names: tuple[str | None, ...], tries: int = 8) -> bool:
    """Append one statement that PyTorch takes; or, seldom, one that it refuses."""
    rng = draw.rng
    name = rng.choice(names)
    while name is None:
        name = rng.choice(names)
    for _ in range(tries):
        try:
            statement = draw_statement(draw, name)
            if rng.random() < 0.05:
                statement = spoiled(rng, statement)
        except Broken:
            raise
        except Exception:  # Skip, or an argument that the row could not prepare under PyTorch
            continue
        if huge(statement):
            continue
        try:
            draw.push(statement)
        except Broken:
            raise
        except Exception:
            if rng.random() < 0.12:
                draw.world.values.append(None)
                draw.statements.append(statement)
                return True
            continue
        return True
    return False


def huge(statement: Statement) -> bool:
    """Whether a number could make a tensor of a million elements."""
    if any(c in statement.function for c in ("getitem", "setitem")):
        return False
    sized = {"repeat", "tile", "arange", "linspace", "full", "zeros", "ones", "pad", "expand"}
    if statement.function.strip("._") not in sized:
        return False

    def big(v: Any) -> bool:
        return isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) > 100

    found: list[bool] = []
    mapped(statement.args, lambda v: found.append(big(v)))
    return any(found)
