"""Calls whose results' dtypes `autocast` decides: those of PyTorch's lists, and some of no list.

A row is a name and a function of (library, draw): `draw(*shape)` is a tensor of autocast's dtype,
`draw.wide(*shape)` one of float32, and `draw.index(*shape)` one of indices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Row = Callable[[Any, Any], Any]


def functional(name: str, *shapes: Any, **options: Any) -> Row:
    """`nn.functional.NAME` of tensors of these shapes; what is no shape is an argument as it is."""
    return lambda lib, draw: getattr(lib.nn.functional, name)(*_drawn(draw, shapes), **options)


def plain(name: str, *shapes: Any, **options: Any) -> Row:
    return lambda lib, draw: getattr(lib, name)(*_drawn(draw, shapes), **options)


def wide(row: Row) -> Row:
    """The row with float32 tensors."""
    return lambda lib, draw: row(lib, draw.wide)


def after_its_like(name: str, x: list[int], *parameters: list[int]) -> Row:
    """`nn.functional.NAME` of what it gave itself: of autocast's dtype, beside the parameters'."""

    def row(lib: Any, draw: Any) -> Any:
        layer, given = getattr(lib.nn.functional, name), _drawn(draw, parameters)
        return layer(layer(draw(*x), *given), *given)

    return row


def _drawn(draw: Any, shapes: Any) -> list[Any]:
    return [draw(*x) if isinstance(x, list) else x for x in shapes]


V, M, W = [4], [4, 4], [3, 3]
IMAGE, KERNEL = [2, 3, 5, 5], [3, 3, 2, 2]

NARROW: dict[str, Row] = {
    "matmul": plain("matmul", M, M),
    "matmul[vector]": plain("matmul", M, V),
    "mm": plain("mm", M, M),
    "mv": plain("mv", M, V),
    "bmm": plain("bmm", [2, 4, 4], [2, 4, 4]),
    "addmm": plain("addmm", M, M, M),
    "addmv": plain("addmv", V, M, V),
    "addr": plain("addr", M, V, V),
    "addbmm": plain("addbmm", M, [2, 4, 4], [2, 4, 4]),
    "baddbmm": plain("baddbmm", [2, 4, 4], [2, 4, 4], [2, 4, 4]),
    "chain_matmul": lambda lib, draw: lib.linalg.multi_dot([draw(4, 4), draw(4, 4), draw(4, 4)]),
    "vecdot": lambda lib, draw: lib.linalg.vecdot(draw(4), draw(4)),
    "einsum": lambda lib, draw: lib.einsum("ij,jk->ik", draw(4, 4), draw(4, 4)),
    "einsum[elementwise]": lambda lib, draw: lib.einsum("ij,j->ij", draw(4, 4), draw(4)),
    "linear": functional("linear", M, M, V),
    "conv1d": functional("conv1d", [2, 3, 5], [3, 3, 2]),
    "conv2d": functional("conv2d", IMAGE, KERNEL),
    "conv3d": functional("conv3d", [1, 2, 3, 3, 3], [2, 2, 2, 2, 2]),
    "conv_transpose1d": functional("conv_transpose1d", [2, 3, 5], [3, 3, 2]),
    "conv_transpose2d": functional("conv_transpose2d", IMAGE, KERNEL),
    "conv2d[bias]": functional("conv2d", IMAGE, KERNEL, [3]),
    "conv_transpose1d[bias]": functional("conv_transpose1d", [2, 3, 5], [3, 3, 2], [3]),
    "conv_transpose2d[bias]": functional("conv_transpose2d", IMAGE, KERNEL, [3]),
    "conv_transpose3d[bias]": functional("conv_transpose3d", [1, 2, 3, 3, 3], [2, 2, 2, 2, 2], [2]),
    **{
        f"{name}[of its like]": after_its_like(name, *shapes)
        for name, *shapes in (
            ("linear", M, M, V),
            ("conv1d", [2, 3, 5], [3, 3, 2], [3]),
            ("conv2d", [2, 3, 5, 5], [3, 3, 2, 2], [3]),
            ("conv3d", [1, 2, 3, 3, 3], [2, 2, 2, 2, 2], [2]),
            ("conv_transpose1d", [2, 3, 5], [3, 3, 2], [3]),
            ("conv_transpose2d", [2, 3, 5, 5], [3, 3, 2, 2], [3]),
            ("conv_transpose3d", [1, 2, 3, 3, 3], [2, 2, 2, 2, 2], [2]),
        )
    },
    "prelu": functional("prelu", M, [1]),
    "attention": functional("scaled_dot_product_attention", *[[1, 1, 4, 4]] * 3),
}
"""Of float32 tensors: the products."""

UNARY = ("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p")
UNARY += ("reciprocal", "rsqrt", "sinh", "tan")
OF_NO_LIST = ("abs", "sqrt", "sin", "cos", "tanh", "sigmoid", "neg", "floor", "erf", "square")
OF_NO_LIST += ("mean", "var", "std", "amax", "atan", "relu", "isnan", "exp2")

LOSSES: dict[str, Row] = {
    **{
        f"{name}[{reduction}]": functional(name, M, M, reduction=reduction)
        for name in ("l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss", "kl_div")
        for reduction in ("none", "sum")
    },
    **{
        name: functional(name, M, M)
        for name in (
            *("binary_cross_entropy_with_logits", "poisson_nll_loss", "soft_margin_loss"),
            *("hinge_embedding_loss", "cosine_similarity"),
        )
    },
    "margin_ranking_loss": functional("margin_ranking_loss", V, V, V),
    "cosine_embedding_loss": functional("cosine_embedding_loss", M, M, V),
    "triplet_margin_loss": functional("triplet_margin_loss", M, M, M),
    "cross_entropy": lambda lib, draw: lib.nn.functional.cross_entropy(draw(4, 4), draw.index(4)),
    "cross_entropy[weight]": lambda lib, draw: lib.nn.functional.cross_entropy(
        draw(4, 4), draw.index(4), weight=draw.wide(4)
    ),
    "cross_entropy[weight, soft]": lambda lib, draw: lib.nn.functional.cross_entropy(
        draw(4, 4), draw.wide(4, 4), weight=draw.wide(4), label_smoothing=0.1
    ),
    "nll_loss": lambda lib, draw: lib.nn.functional.nll_loss(draw(4, 4), draw.index(4)),
    "nll_loss[weight]": lambda lib, draw: lib.nn.functional.nll_loss(
        draw(4, 4), draw.index(4), weight=draw.wide(4)
    ),
    "multi_margin_loss": lambda lib, draw: lib.nn.functional.multi_margin_loss(
        draw(4, 4), draw.index(4)
    ),
    "multilabel_margin_loss": lambda lib, draw: lib.nn.functional.multilabel_margin_loss(
        draw(4, 4), draw.index(4, 4)
    ),
}

ROWS: dict[str, Row] = {
    **{f"{name} of float32": wide(row) for name, row in NARROW.items()},
    **{name: row for name, row in NARROW.items()},
    **{name: plain(name, V) for name in (*UNARY, *OF_NO_LIST)},
    **{f"{name} of float32": wide(plain(name, V)) for name in UNARY},
    **LOSSES,
    "pow": plain("pow", V, V),
    "pow[number]": plain("pow", V, 1.5),
    "rpow": lambda lib, draw: 1.5 ** draw(4),
    "rdiv": lambda lib, draw: 1.5 / draw(4),
    "softmax": functional("softmax", V, dim=0),
    "log_softmax": functional("log_softmax", V, dim=0),
    "softmin": functional("softmin", V, dim=0),
    "softplus": functional("softplus", V),
    "gelu": functional("gelu", V),
    "silu": functional("silu", V),
    "logsigmoid": functional("logsigmoid", V),
    "layer_norm": functional("layer_norm", M, (4,)),
    "layer_norm[weight]": lambda lib, draw: lib.nn.functional.layer_norm(
        draw(4, 4), (4,), draw.wide(4), draw.wide(4)
    ),
    "rms_norm": functional("rms_norm", M, (4,)),
    "group_norm": functional("group_norm", M, 2),
    "normalize": functional("normalize", M),
    "norm": plain("norm", V),
    "norm[1]": plain("norm", V, 1),
    "norm[dim]": plain("norm", M, 2, 1),
    "dist": plain("dist", V, V),
    "cdist": plain("cdist", M, M),
    "pdist": functional("pdist", M),
    "renorm": plain("renorm", M, 2, 0, 1.0),
    "cumsum": plain("cumsum", V, 0),
    "cumprod": plain("cumprod", V, 0),
    "sum": plain("sum", V),
    "sum[dim]": plain("sum", M, 1),
    "prod": plain("prod", V),
    "prod[dim]": plain("prod", M, 1),
    "logsumexp": plain("logsumexp", M, 1),
    "dropout": functional("dropout", V, training=True),
    # Widened to the widest of the inputs
    "add": lambda lib, draw: draw(4) + draw.wide(4),
    "mul": lambda lib, draw: draw(4) * draw.wide(4),
    "where": lambda lib, draw: lib.where(draw(4) > 0, draw(4), draw.wide(4)),
    "cat": lambda lib, draw: lib.cat([draw(4), draw.wide(4)]),
    "stack": lambda lib, draw: lib.stack([draw(4), draw.wide(4)]),
    "addcdiv": lambda lib, draw: lib.addcdiv(draw.wide(4), draw(4), draw(4)),
    "addcmul": lambda lib, draw: lib.addcmul(draw.wide(4), draw(4), draw(4)),
    "atan2": lambda lib, draw: lib.atan2(draw.wide(4), draw(4)),
    "dot": lambda lib, draw: lib.dot(draw(4), draw.wide(4)),
    "cross": lambda lib, draw: lib.cross(draw(3), draw.wide(3), 0),
    "tensordot": lambda lib, draw: lib.tensordot(draw.wide(4, 4), draw(4, 4), 1),
    "bilinear": lambda lib, draw: lib.nn.functional.bilinear(
        draw(1, 2), draw.wide(1, 2), draw(1, 2, 2), draw.wide(1)
    ),
    "grid_sample": lambda lib, draw: lib.nn.functional.grid_sample(
        draw(2, 3, 5, 5), draw.wide(2, 2, 2, 2), align_corners=False
    ),
    "scatter_add": lambda lib, draw: draw(4).scatter_add(0, draw.index(4), draw.wide(4)),
    "index_put": lambda lib, draw: draw(4).index_put((draw.index(2),), draw.wide(2)),
}

VOLUME, ROW_OF_PIXELS = [1, 2, 4, 4, 4], [2, 3, 5]
MATRIX_FUNCTIONS = ("linalg.cholesky linalg.cholesky_ex linalg.eigh linalg.eigvalsh linalg.eigvals "
                    "linalg.svd linalg.svdvals linalg.qr linalg.inv linalg.inv_ex linalg.cond "
                    "cholesky inverse pinverse qr svd geqrf lu trace cholesky_inverse")  # fmt: skip
TRANSFORMS = ("fft ifft fft2 ifft2 fftn ifftn rfft irfft rfft2 irfft2 rfftn irfftn hfft "
              "ihfft")  # fmt: skip


def of_a_matrix(path: str, *others: Any) -> Row:
    """A function by its dotted name, of a positive definite matrix and of others' shapes."""

    def row(lib: Any, draw: Any) -> Any:
        found = lib
        for name in path.split("."):
            found = getattr(found, name)
        matrix = (lib.eye(4) * 2).to(draw(1).dtype)
        result = found(matrix, *_drawn(draw, others))
        return result if isinstance(result, lib.Tensor) else result[0]

    return row


def unpooled(lib: Any, draw: Any) -> Any:
    pooled, places = lib.nn.functional.max_pool2d(draw.wide(1, 1, 4, 4), 2, return_indices=True)
    return lib.nn.functional.max_unpool2d(pooled.to(draw(1).dtype), places, 2)


def recurrent(kind: str, packed: bool = False, **options: Any) -> Row:
    def row(lib: Any, draw: Any) -> Any:
        given = draw(5, 3, 4)
        if packed:
            given = lib.nn.utils.rnn.pack_padded_sequence(given, lib.tensor([5, 3, 2]))
        output, _ = getattr(lib.nn, kind)(4, 6, **options)(given)
        return output.data

    return row


def layer(text: str, *shape: int) -> Row:
    """A layer of `nn`, of float32 weights."""
    return lambda lib, draw: eval(f"nn.{text}", {"nn": lib.nn})(draw(*shape))


HALF_OR_WIDE: dict[str, Row] = {
    **{path: of_a_matrix(path) for path in MATRIX_FUNCTIONS.split()},
    **{f"fft.{name}": of_a_matrix(f"fft.{name}") for name in TRANSFORMS.split()},
    "linalg.solve": of_a_matrix("linalg.solve", M),
    "linalg.lstsq": of_a_matrix("linalg.lstsq", M),
    "linalg.householder_product": of_a_matrix("linalg.householder_product", V),
    "linalg.matrix_power": of_a_matrix("linalg.matrix_power", 2),
    "linalg.matrix_power[inverse]": of_a_matrix("linalg.matrix_power", -1),
    "cholesky_solve": of_a_matrix("cholesky_solve", M),
    "triangular_solve": of_a_matrix("triangular_solve", M),
    "linalg.tensorsolve": of_a_matrix("linalg.tensorsolve", V),
    "ormqr": of_a_matrix("ormqr", V, M),
    "quantile": plain("quantile", V, 0.5),
    "nanquantile": plain("nanquantile", V, 0.5),
    "view_as_complex": plain("view_as_complex", [4, 2]),
    "polar": plain("polar", V, V),
    "stft": lambda lib, draw: lib.stft(draw(16), 4, window=draw.wide(4), return_complex=True),
    "vdot": plain("vdot", V, V),
    "inner": plain("inner", V, V),
    "inner[matrices]": plain("inner", M, M),
    "tensordot[all]": plain("tensordot", M, M, 2),
    "tensordot[one]": plain("tensordot", M, M, 1),
    "binary_cross_entropy": functional("binary_cross_entropy", M, M),
    "ctc_loss": lambda lib, draw: lib.nn.functional.ctc_loss(
        draw(6, 1, 5), lib.tensor([[1, 2]]), (6,), (2,)
    ),
    "avg_pool2d": functional("avg_pool2d", IMAGE, 2),
    "avg_pool3d": functional("avg_pool3d", VOLUME, 2),
    "max_pool2d": functional("max_pool2d", IMAGE, 2),
    "max_pool3d": functional("max_pool3d", VOLUME, 2),
    "adaptive_avg_pool2d": functional("adaptive_avg_pool2d", IMAGE, 2),
    "adaptive_avg_pool3d": functional("adaptive_avg_pool3d", VOLUME, 2),
    "adaptive_max_pool3d": functional("adaptive_max_pool3d", VOLUME, 2),
    "fractional_max_pool2d": functional("fractional_max_pool2d", IMAGE, 2, output_size=2),
    "fractional_max_pool3d": functional("fractional_max_pool3d", VOLUME, 2, output_size=2),
    "max_unpool2d": unpooled,
    "lp_pool2d": functional("lp_pool2d", IMAGE, 2.0, 2),
    "lp_pool3d": functional("lp_pool3d", VOLUME, 2.0, 2),
    "local_response_norm": functional("local_response_norm", ROW_OF_PIXELS, 2),
    "local_response_norm[image]": functional("local_response_norm", IMAGE, 2),
    **{
        f"pad[{mode}, {len(shape) - 2}]": functional(
            "pad", shape, (1, 1) * (len(shape) - 2), mode=mode
        )
        for mode in ("constant", "reflect", "replicate", "circular")
        for shape in (ROW_OF_PIXELS, IMAGE, VOLUME)
    },
    "bilinear[alike]": functional("bilinear", [1, 2], [1, 2], [1, 2, 2]),
    "group_norm[weight]": layer("GroupNorm(2, 4)", 3, 4, 5),
    "batch_norm": layer("BatchNorm1d(4)", 3, 4, 5),
    "batch_norm[evaluation]": layer("BatchNorm1d(4).eval()", 3, 4, 5),
    "instance_norm": layer("InstanceNorm1d(4, affine=True)", 3, 4, 5),
    "gumbel_softmax": functional("gumbel_softmax", M),
    "gumbel_softmax[hard]": functional("gumbel_softmax", M, hard=True),
    **{
        f"{kind}{'[packed]' if packed else ''}{'[deep]' if deep else ''}": recurrent(
            kind, packed, **(dict(num_layers=2, bidirectional=True, bias=False) if deep else {})
        )
        for kind in ("RNN", "LSTM", "GRU")
        for packed in (False, True)
        for deep in (False, True)
    },
    "LSTM[projected]": recurrent("LSTM", proj_size=3),
    "RNNCell": layer("RNNCell(4, 6)", 3, 4),
    "GRUCell": layer("GRUCell(4, 6)", 3, 4),
    "LSTMCell": lambda lib, draw: lib.nn.LSTMCell(4, 6)(draw(3, 4))[1],
}
"""Of which the CPU's list is another than the GPU's, or the result has another dtype there."""

CPU_ROWS: dict[str, Row] = {
    **HALF_OR_WIDE,
    **{f"{name} of float32": wide(row) for name, row in HALF_OR_WIDE.items()},
}
