"""Functions of tensors without elements: values, shapes, dtypes, gradients and errors as PyTorch's.

The expressions are of the package `G`, of its functional `F`, and of tensors without elements, or
of ones, that are named after their shapes: `n0_3` is (0, 3) and requires a gradient.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

import gradient  # noqa: E402

REDUCTIONS = """
sum() mean() prod() max() min() amax() amin() median() std() var() norm() norm(1) norm(3)
norm(INF) norm(-INF) norm(0.5) norm(-1) norm(INF, 0) norm(INF, 1) norm(1, 0) norm(2, 1)
sum(0) sum(1) mean(0) mean(1) prod(0) prod(1) std(0) std(1) var(0) var(1) amax(0) amax(1) amin(0)
amin(1) max(0) max(1) min(0) min(1) median(0) median(1) logsumexp(0) logsumexp(1) argmax() argmax(0)
argmax(1) all() any() all(0) any(1) cumsum(0) cumsum(1) cumprod(0) cumprod(1) sort(0) sort(1)
topk(0,0) topk(0,1) topk(1,0) topk(1,1) kthvalue(1,0) kthvalue(1,1) softmax(0) softmax(1)
log_softmax(0) log_softmax(1) quantile(0.5) quantile(0.5,0) quantile(0.5,1) count_nonzero()
aminmax()
"""

OTHERS = """
F.softmax(n0, 0)  F.log_softmax(n0, 0)  F.softmin(n2_0, 1)  F.gumbel_softmax(n2_0).shape
F.layer_norm(n0_3, (3,))  F.layer_norm(n3_0, (0,))  F.layer_norm(n0_3, (3,), n3, n3)
F.rms_norm(n0_3, (3,))  F.rms_norm(n3_0, (0,))  F.rms_norm(n0_3, (3,), n3)
F.group_norm(n0_4_2, 2)  F.group_norm(n2_4_0, 2)  F.normalize(n0_3)  F.normalize(n3_0)
F.batch_norm(n0_4_2, None, None, training=True)  F.instance_norm(n0_4_2)
F.local_response_norm(n0_4_2, 2)
F.mse_loss(n0, n0)  F.mse_loss(n0, n0, reduction="sum")  F.l1_loss(n0_3, n0_3)  F.huber_loss(n0, n0)
F.smooth_l1_loss(n0, n0)  F.binary_cross_entropy(n0, n0)  F.kl_div(n0_3, n0_3)
F.kl_div(n0_3, n0_3, reduction="batchmean")  F.kl_div(n3_0, n3_0, reduction="sum")
F.binary_cross_entropy_with_logits(n0, n0)
F.binary_cross_entropy_with_logits(n0_3, n0_3, n3.detach())
F.poisson_nll_loss(n0, n0)  F.gaussian_nll_loss(n0, n0, n0)  F.soft_margin_loss(n0, n0.detach())
F.multilabel_soft_margin_loss(n0_3, n0_3)  F.hinge_embedding_loss(n0, n0.detach())
F.margin_ranking_loss(n0, n0, n0.detach())  F.cosine_embedding_loss(n0_3, n0_3, n0.detach())
F.triplet_margin_loss(n0_3, n0_3, n0_3)  F.cosine_similarity(n0_3, n0_3)
F.cosine_similarity(n3_0, n3_0)  F.pairwise_distance(n0_3, n0_3)  F.pairwise_distance(n3_0, n3_0)
F.cross_entropy(n0_3, I0)  F.cross_entropy(n0_3, I0, reduction="sum")
F.cross_entropy(n0_3, I0, reduction="none")  F.cross_entropy(n0_3, I0, label_smoothing=0.1)
F.cross_entropy(n0_3, I0, n3.detach())  F.cross_entropy(n0_3, n0_3)  F.cross_entropy(n2_0, I2)
F.cross_entropy(n2_0, n2_0, reduction="sum")  F.cross_entropy(n2_3_0, I2_0)
F.nll_loss(n0_3, I0)  F.nll_loss(n0_3, I0, reduction="none")  F.nll_loss(n2_3_0, I2_0)
F.multi_margin_loss(n0_3, I0, reduction="none")
F.linear(n2_0, n3_0)  F.linear(n2_0, n3_0, n3)  F.linear(n0_3, n2_3, n2)  F.linear(n2_3, n0_3)
F.linear(n2_4_0, n3_0)  F.linear(n0, n3_0)  F.linear(n0_4_2, n3_2, n3)
F.bilinear(n0_3, n0_3, n2_3_3)
n2_0 @ n0_3  n0_3 @ n3_0  n0_3 @ n3_2  n2_3 @ n3_0  n0 @ n0  n2_0 @ n0  n0_3 @ n3  n0 @ n0_3
n0_4_2 @ n2_3  n2_4_0 @ n0_3  n2_4_0 @ n0  n0_4_2.bmm(n0_2_4)  n2_4_0.bmm(n2_0_4)
n0.dot(n0)  n0.outer(n3)  n2_0.mm(n0_3)  n2_0.mv(n0)  n2_3.addmm(n2_0, n0_3)
G.einsum("ij,jk->ik", n2_0, n0_3)  G.einsum("ij->i", n2_0)  G.einsum("ij->", n0_3)
F.scaled_dot_product_attention(n1_2_4, n1_0_4, n1_0_4)
F.scaled_dot_product_attention(n1_0_4, n1_2_4, n1_2_4)
F.embedding(I0, n0_3)  F.embedding(I0, n3_2)  F.one_hot(I0, 3)  F.dropout(n0, 0.5)
F.relu(n0)  F.gelu(n0_3)  F.glu(n2_0)  F.prelu(n0_3, n3)  F.max_pool1d(n0_4_2, 2)
F.avg_pool1d(n0_4_2, 2)  F.adaptive_avg_pool1d(n0_4_2, 1)  F.adaptive_max_pool1d(n0_4_2, 1)
F.conv1d(n0_4_2, n3_4_2)  F.conv1d(n0_4_2, n3_4_2, n3)
F.conv1d(n0_4_2, n4_2_2, groups=2)  F.conv_transpose1d(n0_4_2, n4_3_2)
F.conv2d(n0_3_2_2, n4_3_1_1)  F.conv_transpose1d(n0_4_2, n4_3_2, groups=2)
F.pad(n0_3, (1, 1))  F.pad(n0, (1, 1))
G.cat([n0_3, n2_3])  G.cat([n0, n2])  G.cat([n0.detach(), n2_3])
G.cat([n0, n0], 1)  G.cat([n0, n0.detach()], -2)  G.stack([n0, n0])
G.where(n0 > 0, n0, n0)  n0.flip(0)  n0_3.roll(1, 0)
n0_3.index_select(0, I0)  n3_0.gather(1, I3_0)  n0.repeat(3)  n3.repeat(0)  n0_3.expand(2, 0, 3)
"""


def expressions() -> list[str]:
    found = [
        f"{of}.{call}"
        for of in ("n0_3", "n3_0")
        for call in re.split(r"(?<=\))\s+", REDUCTIONS.strip())
    ]
    return found + [
        e for line in OTHERS.splitlines() for e in re.split(r"\s{2,}", line.strip()) if e
    ]


def run(package: Any, expression: str) -> Any:
    """[(dtype, shape, numbers) of each result and gradient], or the error."""
    names = {n for n in re.findall(r"(?<![.\w])[nI]\d[\d_]*", expression)}
    inputs = {}
    for name in sorted(names):
        shape = tuple(int(n) for n in name[1:].split("_"))
        floating = name[0] == "n"
        made = package.ones(shape) if floating else package.zeros(shape, dtype=package.int64)
        inputs[name] = made.requires_grad_(floating)
    functional = package.nn.functional
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = eval(
                expression, {"G": package, "F": functional, "INF": float("inf"), **inputs}
            )
            if isinstance(results, (package.Tensor, package.Size)):
                results = (results,)
            if results[0].requires_grad if isinstance(results[0], package.Tensor) else False:
                results[0].sum().backward()
    except Exception as error:
        return error
    found = [
        r for r in (*results, *(t.grad for t in inputs.values())) if isinstance(r, package.Tensor)
    ]
    return [(str(t.dtype).split(".")[1], tuple(t.shape), t.detach().numpy()) for t in found]


@pytest.mark.parametrize("expression", expressions())
def test_sizes_of_zero(expression: str) -> None:
    theirs, ours = run(torch, expression), run(gradient, expression)
    if isinstance(theirs, Exception):
        assert isinstance(ours, type(theirs)), f"{theirs!r}, {ours!r}"
        return
    assert not isinstance(ours, Exception), repr(ours)
    assert [found[:2] for found in ours] == [found[:2] for found in theirs]
    for (_, _, mine), (_, _, wanted) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-6)
