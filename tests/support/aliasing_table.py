"""Which functions and methods give a copy, which a view of their input, and which the input itself.

Every public function and method stands here in an expression of the tensors in `INPUTS`, the
package `G` and its functional `F`. test_aliasing.py holds gradient to the table and fails for a
name without a row; parity/test_aliasing_parity.py holds the table to PyTorch.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np


def words(text: str) -> list[str]:
    return text.split()


INPUTS = {
    "x": np.linspace(0.3, 0.8, 12).reshape(3, 4),
    "y": np.linspace(0.9, 0.4, 12).reshape(3, 4),
    "v": np.linspace(0.2, 0.7, 4),
    "s": np.array(0.5),
    "e": np.zeros((0, 3)),
    "z": np.linspace(0.1, 0.9, 6).reshape(2, 3) * (1 - 2j),
    "sq": np.linspace(0.1, 0.9, 9).reshape(3, 3),
    "img": np.linspace(0.1, 0.9, 16).reshape(1, 4, 2, 2),
    "vol": np.linspace(0.1, 0.9, 16).reshape(1, 1, 4, 2, 2),
    "w": np.linspace(0.1, 0.9, 12).reshape(1, 4, 3),
    "i": np.arange(1, 13).reshape(3, 4),
    "j": np.arange(3, 15).reshape(3, 4),
    "b": np.arange(12).reshape(3, 4) % 2 == 0,
    "at": np.array([0, 2]),
    "places": np.zeros((1, 4), np.int64),
    "classes": np.array([0, 1, 2]),
    "signs": np.array([1.0, -1.0, 1.0]),
}
"""The tensors of the expressions, by name."""

UNARY = words(
    """
abs absolute acos acosh all amax amin any arccos arccosh arcsin arcsinh arctan arctanh argmax
argmin argsort argwhere asin asinh atan atanh bernoulli ceil clone cos cosh count_nonzero digamma
erf erfc erfinv exp exp2 expm1 fix floor frac i0 isfinite isinf isnan lgamma log log10 log1p log2
logical_not max mean median min nan_to_num neg negative nonzero norm prod
reciprocal relu round rsqrt sigmoid sign sin sinh sqrt square std sum tan tanh
tril triu trunc unique var
"""
)
"""Methods without arguments that give a copy, whatever the dtype and the number of dimensions."""

BINARY = words(
    """
add arctan2 atan2 bitwise_and bitwise_or bitwise_xor div divide floor_divide fmod logaddexp
logical_and logical_or logical_xor maximum minimum mul multiply pow remainder sub subtract
true_divide
eq ge greater greater_equal gt isclose le less less_equal lt ne not_equal
"""
)
"""Methods of two tensors that give a copy."""

ACTIVATIONS = words(
    """
celu elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu relu6 selu
sigmoid silu softplus softshrink softsign tanh tanhshrink
"""
)

COPIES = """
x.round(decimals=1)  i.bitwise_not()  b.bitwise_not()
x.addcdiv(x, y)  x.addcmul(x, y)  x.lerp(y, 0.0)  x.lerp(y, 1.0)  x.where(b, y)
x.clamp(min=0)  i.clamp(min=0)  i.clamp(max=100)  x.clip(0, 1)  x.clamp_min(0)  x.clamp_max(9)
i.clamp_min(0)  x.clamp(min=y)
x.logit()  x.logit(eps=0.1)
x.masked_fill(b, 0.0)  x.masked_fill(b & ~b, 0.0)  x.masked_scatter(b, y)  x.masked_select(b)
v.masked_select(v > 0)
x.sum(0)  x.sum(dim=())  s.sum(0)  w.sum(0)  i.sum()  s.sum(0, keepdim=True)  x.sum(dtype=G.float64)
x.mean(0)  s.mean(0)  w.mean(0)  x.prod(0)  s.prod(0)  w.prod(0)
x.amax(0)  s.amax(0)  w.amax(0)  w.amin(0)  x.amin(1)  s.amin(0)  w.aminmax(dim=0)
x.max(0)  s.max(0)  x.min(1)  s.min(0)  w.max(0)  w.max(0, keepdim=True)  x.max(y)  x.min(y)
x.median(0)  s.median(0)  w.median(0)  x.kthvalue(1)  s.kthvalue(1)  w.kthvalue(1, 0)
w.all(0)  w.any(0)  b.all(0)  b.any(0)  w.argmax(0)  w.argmin(0)
x.sort()  s.sort()  w.sort(0)  s.sort(0)  s.argsort(0)  x.topk(2)  s.topk(1)  w.topk(1, 0)
x.topk(4)
x.quantile(0.5)  s.quantile(0.5)  x.quantile(0.5, 0)  w.quantile(0.5, 0)
x.cumsum(0)  s.cumsum(0)  w.cumsum(0)  i.cumsum(0)  x.cumprod(0)  s.cumprod(0)  w.cumprod(0)
x.logsumexp(0)  s.logsumexp(0)  w.logsumexp(0)
x.softmax(0)  s.softmax(0)  w.softmax(0)  x.log_softmax(0)  s.log_softmax(0)  w.log_softmax(0)
x.std(0)  x.var(0)  x.norm(1)  s.norm(1)  x.norm(float("inf"))  s.norm(float("inf"))  s.norm(3)
w.norm(dim=0)  w.norm(1, dim=0)  w.norm(float("inf"), dim=0)  w.norm(0, dim=0)
i[0].bincount()  x.trace()  x.multinomial(2)
x.repeat(1, 1)  x.repeat(2, 1)  x.tile((1,))  x.tile(1, 1)  s.repeat(1)
x.repeat_interleave(1)  x.repeat_interleave(1, 0)  x.repeat_interleave(2, 1)
x.repeat_interleave(i[:, 0] * 0 + 1, 0)
x.flip(0)  x.flip(())  w.flip(0)  s.flip(0)
x.roll(0)  x.roll(0, 0)  x.roll(4, 1)  x.roll((3, 4), (0, 1))  w.roll(1, 0)  s.roll(1)  e.roll(1, 0)
v.diag()  sq.diag()  v.diag_embed()  v[:1].diag_embed()
x.tril(9)  x.triu(-9)
x.index_select(0, at)  s.index_select(0, at[:1])  x.gather(0, places)  s.gather(0, at[0])
x.take(at)  x.take_along_dim(places, 0)  x.take_along_dim(places)
x.scatter(0, places, y)  x.scatter(0, places[:0], y)  x.scatter_add(0, places, y)
x.scatter_add(0, places[:0], y)
x.index_add(0, at, y[:2])  x.index_add(0, at[:0], y[:0])  x.index_copy(0, at, y[:2])
x.index_copy(0, at[:0], y[:0])  x.index_fill(0, at, 1.0)  x.index_fill(0, at[:0], 1.0)
s.index_fill(0, at[:1], 1.0)  s.index_add(0, at[:1], s)  s.index_copy(0, at[:1], s)
x.nonzero(as_tuple=True)
sq.matmul(sq)  sq.mm(sq)  sq.mv(sq[0])  v.dot(v)  v.inner(v)  s.inner(s)  v.outer(v)  v.ger(v)
w.bmm(w.mT)
sq.addmm(sq, sq)  w.baddbmm(w, w[:, :3])  sq.addmm(sq, sq, beta=1, alpha=0)
x.new_tensor([1.0])  x.new(2)  x.new_zeros(2)  x.new_ones(2)  x.new_empty(2)  x.new_full((2,), 1.0)
x.float()  x.half()  x.bfloat16()  x.int()  x.long()  x.short()  x.char()  x.byte()  x.bool()
i.double()  x.to(G.float32)  x.to(G.float64, copy=True)  x.type(G.float32)  x.type_as(i)
x.t().contiguous()
x.clone()
G.bernoulli(x)  G.multinomial(x, 2)
G.tensor(x.tolist())
G.cat([x, y])  G.cat([x])  G.concat([x])  G.concatenate([x])  G.cat([x, v[:0]])  G.stack([x])
G.hstack([x])  G.vstack([x])  G.vstack([v])  G.hstack([v])
G.einsum("ij,jk->ik", sq, sq)  G.einsum("ij->i", x)
G.empty(2)  G.zeros(2)  G.ones(2)  G.full((2,), 1.0)  G.eye(2)  G.arange(3)  G.linspace(0, 1, 3)
G.logspace(0, 1, 3)  G.tril_indices(2, 2)  G.triu_indices(2, 2)
G.empty_like(x)  G.zeros_like(x)  G.ones_like(x)  G.full_like(x, 1.0)
G.rand(2)  G.randn(2)  G.randint(0, 5, (2,))  G.randperm(3)  G.normal(0.0, 1.0, (2,))
G.normal(x, 1.0)  G.rand_like(x)  G.randn_like(x)  G.randint_like(x, 5)
G.where(b, x, y)  G.where(b | ~b, x, x)  G.where(b)
F.adaptive_avg_pool1d(w, 3)  F.adaptive_avg_pool2d(img, 2)  F.adaptive_avg_pool3d(img, 2)
F.adaptive_max_pool1d(w, 3)  F.adaptive_max_pool2d(img, 2)  F.adaptive_max_pool3d(img, 2)
F.avg_pool1d(w, 1)  F.avg_pool2d(img, 1)  F.avg_pool3d(img, 1)
F.max_pool1d(w, 1)  F.max_pool2d(img, 1)  F.max_pool3d(img, 1)
F.alpha_dropout(x, 0.5, training=True)  F.dropout(x, 0.5)  F.dropout1d(w, 0.5)
F.dropout2d(img, 0.5)  F.dropout3d(vol, 0.5)
F.feature_alpha_dropout(x, 0.5, training=True)  F.rrelu(x, training=True)  F.rrelu(x)
F.lp_pool1d(w, 2.0, 1)  F.lp_pool2d(img, 2.0, 1)  F.lp_pool3d(vol, 2.0, 1)
F.fractional_max_pool2d(img, 1, output_size=1)  F.fractional_max_pool3d(vol, 1, output_size=1)
F.fractional_max_pool2d_with_indices(img, 1, output_size=1)
F.fractional_max_pool3d_with_indices(vol, 1, output_size=1)
F.max_unpool1d(w, w.long(), 1)  F.max_unpool2d(img, img.long(), 1)
F.max_unpool3d(vol, vol.long(), 1)  F.upsample(img, 2)  F.upsample_nearest(img, 2)
F.upsample_bilinear(img, 2)  F.affine_grid(w[:, :2], (1, 1, 2, 2))
F.grid_sample(img, img.reshape(1, 2, 4, 2))  F.grid_sample(img[:, :2], img.mT.reshape(1, 2, 4, 2))
F.ctc_loss(w.transpose(0, 1), places[:, :1] + 1, (1,), (1,))  F.embedding_bag(places, x, mode="sum")
F.embedding_bag(places[0, :1], x, at[:1], mode="max")
F.multi_head_attention_forward(x, x, x, 4, 1, y.new_ones(12, 4), *[None] * 3, 0, 0, x.mT @ x, None)
F.linear_cross_entropy(x, y, classes)  F.multilabel_margin_loss(v, places[0])
F.batch_norm(w, v, v)  F.group_norm(w, 1)  F.instance_norm(w)  F.layer_norm(x, (4,))
F.layer_norm(w[:, :, :1], (1,))  F.rms_norm(x, (4,))  F.local_response_norm(w, 1)  F.normalize(x)
F.bilinear(x, y, w.reshape(3, 4, 1) + w.reshape(3, 1, 4))
F.binary_cross_entropy(x, y)  F.binary_cross_entropy(x, y, reduction="none")
F.binary_cross_entropy_with_logits(x, y, reduction="none")
F.cosine_embedding_loss(x, y, signs)  F.cosine_similarity(x, y)  F.pairwise_distance(x, y)
F.cross_entropy(x, classes)  F.nll_loss(x, classes, reduction="none")  F.gaussian_nll_loss(x, y, y)
F.hinge_embedding_loss(x, y, reduction="none")  F.huber_loss(x, y, reduction="none")
F.kl_div(x, y, reduction="none")  F.l1_loss(x, y, reduction="none")
F.margin_ranking_loss(x, y, y)  F.mse_loss(x, y, reduction="none")  F.multi_margin_loss(x, classes)
F.multilabel_soft_margin_loss(x, y)  F.poisson_nll_loss(x, y, reduction="none")
F.smooth_l1_loss(x, y, beta=0.0, reduction="none")  F.soft_margin_loss(x, y, reduction="none")
F.triplet_margin_loss(x, y, x)  F.triplet_margin_with_distance_loss(x, y, x)
F.channel_shuffle(img, 1)  F.channel_shuffle(img, 2)  F.pixel_shuffle(img, 1)
F.pixel_unshuffle(img, 1)  F.pixel_shuffle(img, 2)  F.pixel_unshuffle(img, 2)
F.conv1d(w, w)  F.conv2d(img, img)  F.conv3d(vol, vol)  F.conv_transpose1d(w, w.reshape(4, 1, 3))
F.conv_transpose2d(img, img.reshape(4, 1, 2, 2))  F.conv_transpose3d(vol, vol)
F.embedding(at, x)  F.fold(w, (1, 3), (1, 1))  F.fold(w, (2, 4), (2, 2))  F.unfold(img, 1)
F.unfold(img, 2)
F.glu(x)  F.gumbel_softmax(x)  F.interpolate(img, scale_factor=1)  F.interpolate(img, size=(2, 2))
F.interpolate(img, size=(2, 2), mode="bilinear")  F.linear(x, y)
F.log_softmax(x, 0)  F.softmax(x, 0)  F.softmin(x, 0)  F.log_softmax(s, 0)  F.softmax(s, 0)
F.one_hot(i)  F.pad(x, (0, 0))  F.pad(x, (0, 0, 0, 0), value=1.0)  F.pad(x, (1, -1))
F.pad(x, (-1, 0))  F.pad(w, (0, 0), mode="reflect")  F.pad(w, (0, 0), mode="replicate")
F.pad(w, (0, 0), mode="circular")  F.pad(x, ())
F.prelu(x, v)  F.threshold(x, 0.1, 0.0)  F.threshold(i, 0, 0)  F.gelu(x, approximate="tanh")
F.scaled_dot_product_attention(w, w, w)
sq.addbmm(w[:, :3], w[:, :3])  sq[0].addmv(sq, sq[0])  sq.addr(sq[0], sq[0])  v.vdot(v)  x.kron(y)
sq.cross(sq, 1)  x.deg2rad()  x.rad2deg()  x.sgn()  x.signbit()  x.sinc()  x.hypot(y)
x.copysign(y)  x.fmax(y)  x.fmin(y)  x.float_power(2)  x.ldexp(j)  x.frexp()  x.logaddexp2(y)
x.xlogy(y)  x.polygamma(1)  x.mvlgamma(1)  x.igamma(y)  x.igammac(y)  G.polygamma(1, x)
x.angle()  x.nansum()  x.nanmean()  x.nanmedian()  x.nanmedian(0)  x.nanquantile(0.5)
G.std_mean(x)  G.var_mean(x)  x.mode()  x.dist(y)  x.renorm(2, 0, 1.0)  x.cov()  x.corrcoef()
x.cummax(0)  x.cummin(0)  x.logcumsumexp(0)  x.fliplr()  x.flipud()  x.rot90()  x.rot90(2)
x.diagflat()  x.msort()  x.slice_scatter(y)  x.select_scatter(v, 0, 1)
sq.diagonal_scatter(sq[0])  x.diff()  x.scatter_reduce(0, places, y, "amax")
x.index_reduce(0, at, y[:2], "amax")  x.index_put((at,), y[:2])  x.put(at, y[0, :2])
x.sum_to_size(1, 4)
G.trapezoid(x)  G.trapz(x)  G.cumulative_trapezoid(x)  G.gradient(v)  G.tensordot(sq, sq, 1)
G.cdist(x, y)  G.bucketize(x, v)  G.histc(x)  G.isin(x, v)  G.block_diag(x, y)
G.cartesian_prod(v, v)  G.column_stack([x])  G.combinations(v)  G.dstack([x])  G.row_stack([x])
G.hann_window(4)  G.hamming_window(4)  G.blackman_window(4)  G.bartlett_window(4)
G.kaiser_window(4)  G.stft(v, 4, 2, window=v, center=False, return_complex=True)
G.istft(G.ones(3, 3) * 1j, 4, 2, window=G.ones(4))
G.complex(x, y)  G.polar(x, y)  z.angle()  z.sgn()  z.abs()  x.cfloat()  x.cdouble()
G.cholesky(sq @ sq.mT + G.eye(3))  G.cholesky_inverse(sq)  G.cholesky_solve(sq, sq)
G.det(sq + G.eye(3))  G.inverse(sq + G.eye(3))  G.logdet(sq + G.eye(3))  G.matrix_exp(sq)
G.matrix_power(sq, 2)  G.pinverse(sq + G.eye(3))  G.qr(sq + G.eye(3))  G.slogdet(sq + G.eye(3))
G.svd(sq + G.eye(3))  G.lu(sq)  G.lu_solve(sq, *G.lu(sq))  G.lu_unpack(*G.lu(sq))
G.triangular_solve(sq, sq)  G.geqrf(sq)  G.ormqr(sq, sq[0], sq)  G.svd_lowrank(sq, 2)
G.pca_lowrank(sq, 2)  x.as_strided_scatter(v, (4,), (1,))  x.nextafter(y)  F.pdist(x)
i.gcd(j)  i.lcm(j)  i.bitwise_left_shift(j)  i.bitwise_right_shift(j)  x.heaviside(y)
x.isposinf()  x.isneginf()  x.isreal()  x.unique_consecutive()  x.clamp_max(y)  x.clamp_min(y)
(sq @ sq.mT + G.eye(3)).cholesky()  sq.cholesky_inverse()  sq.cholesky_solve(sq)
(sq + G.eye(3)).det()  (sq + G.eye(3)).inverse()  (sq + G.eye(3)).logdet()
(sq + G.eye(3)).matrix_exp()  (sq + G.eye(3)).pinverse()  (sq + G.eye(3)).qr()
(sq + G.eye(3)).slogdet()  (sq + G.eye(3)).svd()  sq.matrix_power(2)
sq.geqrf()  sq.orgqr(sq[0])  sq.ormqr(sq[0], sq)  sq.lu()  sq.lu_solve(*sq.lu())
sq.triangular_solve(sq)  x.histc()  x.hardshrink()  x.prelu(v)
x.stft(4, 2, window=v, center=False, return_complex=True)
(G.ones(3, 3) * 1j).istft(4, 2, window=G.ones(4))
x.narrow_copy(0, 0, 3)  x.new_empty_strided((2,), (1,))  x.nonzero_static(size=2)
"""
"""Expressions whose results share no memory with any input."""

ONLY_HERE = """
x.rsub(y)  i.rsub(j)  v.searchsorted(x)  F.attention(img, img, img)
F.grouped_linear(x, [y, y], at // 2 + 1)  F.cdist(x, y)  x.histogram(4)
"""
"""The same, of functions that PyTorch does not have there, or whose counts require a gradient."""

VIEWS = """
x[0]  x[...]  x[:, 1:]  x[None]  x[at[0]]  x[0, at[0]]
x.T  x.mT  x.t()  v.t()  s.t()  x.ravel()  x.data  x.detach()  s.detach()  x.as_subclass(G.Tensor)
x.view(4, 3)  x.view(G.int64)  x.view_as(x)  x.reshape(4, 3)  x.reshape(3, 4)  x.reshape_as(x)
s.reshape(1)  s.view(1)  x.flatten()  s.flatten()  x.unflatten(1, (2, 2))
x.permute(1, 0)  x.transpose(0, 1)  x.swapaxes(0, 1)  x.swapdims(0, 1)  x.movedim(0, 1)
x.moveaxis(0, 1)  s.transpose(0, 0)  x.permute(0, 1)  x.transpose(0, 0)
w.squeeze()  x.squeeze()  s.squeeze()  w.squeeze(0)  x.squeeze(0)  x.unsqueeze(0)  s.unsqueeze(0)
x.expand(3, 4)  x.expand(2, 3, 4)  x.expand_as(x)  x.broadcast_to(2, 3, 4)  s.expand(2)
x.diagonal()  sq.diagonal(1)  x.narrow(0, 0, 3)  x.select(0, 1)
x.as_strided((2, 2), (1, 4))
x.unfold(0, 2, 1)  x.unfold(1, 4, 1)  s.unfold(0, 1, 1)
x.split(2)  x.split(3)  x.split([1, 2])  x.chunk(2)  x.chunk(1)  x.tensor_split(2)
x.tensor_split(1)
x.unbind()  v.unbind()
G.broadcast_tensors(x[:1], y[:, :1])  G.meshgrid(v, v, indexing="ij")  G.meshgrid(v, indexing="ij")
x.hsplit(2)  x.vsplit(3)  w.dsplit(3)  x.split_with_sizes([1, 2])  sq.H  sq.mH  sq.adjoint()
x.unsafe_chunk(3)  x.unsafe_split(2)  x.unsafe_split_with_sizes([1, 2])
z.real  z.imag  G.view_as_real(z)  G.view_as_complex(x[:, :2])
G.atleast_1d(s)  G.atleast_2d(v)  G.atleast_3d(x)
"""
"""Expressions whose results share the memory of their first input."""

ITSELF = """
x.contiguous()
x.to(G.float64)  x.to(x)  x.double()  i.long()  b.bool()  x.type_as(x)  x.type(G.float64)  x.cpu()
x.to("cpu")
x.flatten(0, 0)  v.flatten()
G.as_tensor(x)  G.asarray(x)  G.broadcast_tensors(x, y)  F.dropout(x, 0.0)
F.dropout(x, 0.5, training=False)
F.alpha_dropout(x, 0.5, training=False)  F.feature_alpha_dropout(x)  F.dropout1d(w, training=False)
F.dropout2d(img, training=False)  F.dropout3d(vol, training=False)
x.conj()  x.conj_physical()  x.positive()  x.resolve_conj()  x.resolve_neg()  x.real
z.cdouble()  x.to_dense()
"""
"""Expressions that give their input back."""

IN_PLACE = """
x.abs_()  x.add_(y)  x.addcdiv_(x, y)  x.addcmul_(x, y)  x.bernoulli_()  i.bitwise_not_()  x.ceil_()
x.digamma_()  x.i0_()  x.igamma_(y)  x.igammac_(y)  x.lgamma_()  x.mvlgamma_(1)  x.polygamma_(1)
x.xlogy_(y)
x.clamp_(0, 1)  x.clamp_max_(1)  x.clamp_min_(0)  x.clip_(0, 1)  x.copy_(y)  x.cos_()  x.cumsum_(0)
x.div_(y)  x.erf_()  x.erfinv_()  x.exp_()  x.expm1_()  x.exponential_()  x.fill_(1.0)
x.floor_()  x.floor_divide_(y)  x.fmod_(y)  x.index_add_(0, at, y[:2])  x.index_copy_(0, at, y[:2])
x.index_fill_(0, at, 1.0)  x.lerp_(y, 0.5)  x.log1p_()  x.log_()  x.logical_not_()
x.masked_fill_(b, 1.0)  x.masked_scatter_(b, y)  x.mul_(y)  x.nan_to_num_()  x.neg_()  x.normal_()
x.pow_(2)  x.random_()  x.reciprocal_()  x.relu_()  x.remainder_(y)  x.requires_grad_()  x.round_()
x.rsqrt_()  x.scatter_(0, places, y)  x.scatter_add_(0, places, y)  x.sigmoid_()  x.sign_()
x.sin_()  x.sqrt_()  x.square_()  x.sub_(y)  x.tanh_()  x.tril_()  x.triu_()  x.trunc_()
x.absolute_()  x.acos_()  x.acosh_()  x.arccos_()  x.arccosh_()  x.arcsin_()  x.arcsinh_()
x.arctan_()  x.arctanh_()  x.asin_()  x.asinh_()  x.atan_()  x.atanh_()  x.cosh_()  x.erfc_()
x.exp2_()  x.frac_()  x.log10_()  x.log2_()  x.logit_()  x.negative_()  x.sinh_()  x.tan_()
x.deg2rad_()  x.rad2deg_()  x.sgn_()  x.sinc_()  x.arctan2_(y)  x.atan2_(y)  x.divide_(y)
x.eq_(y)  x.ge_(y)  x.greater_(y)  x.greater_equal_(y)  x.gt_(y)  x.le_(y)  x.less_(y)
x.less_equal_(y)  x.logical_and_(y)  x.logical_or_(y)  x.logical_xor_(y)  x.lt_(y)  x.multiply_(y)
x.ne_(y)  x.not_equal_(y)  x.subtract_(y)  x.true_divide_(y)  x.copysign_(y)  x.float_power_(y)
x.hypot_(y)  x.ldexp_(y)  x.nextafter_(y)  x.heaviside_(y)  i.bitwise_and_(j)  i.bitwise_or_(j)
i.bitwise_xor_(j)  i.gcd_(j)  i.lcm_(j)  i.bitwise_left_shift_(j)  i.bitwise_right_shift_(j)
x.as_strided_((2, 2), (1, 2))
x.cumprod_(0)  x.index_put_((at,), y[:2])  x.index_reduce_(0, at, y[:2], "amax")
x.put_(at, y[0, :2])  x.scatter_reduce_(0, places, y, "amax")  x.renorm_(2, 0, 1.0)
x.fill_diagonal_(1.0)  x.squeeze_()  x.unsqueeze_(0)  x.t_()  x.transpose_(0, 1)
x.swapaxes_(0, 1)  x.swapdims_(0, 1)  sq.addmm_(sq, sq)  v.addmv_(y.mT @ y, v)
sq.addr_(v[:3], v[:3])  w.baddbmm_(w, sq.expand(1, 3, 3))
sq.addbmm_(sq.expand(2, 3, 3), sq.expand(2, 3, 3))
x.uniform_()  x.zero_()  x.detach_()  x.cauchy_()  x.geometric_(0.5)  x.log_normal_()
x.resize_(2, 2)  x.resize_as_(x.new_ones(1))
x.fix_()
"""
"""Methods that write to the tensor and return it."""

NO_TENSORS = words(
    """
array backend backward cuda data_ptr dequantize device dim dtype element_size grad grad_fn
is_complex is_conj is_contiguous is_cpu is_cuda is_floating_point is_meta is_mkldnn is_mps is_neg
is_nested is_quantized is_sparse is_sparse_csr is_xpu layout
inference is_inference is_leaf is_shared item itemsize
nbytes ndim share_memory_ storage unnoted untyped_storage
nelement node numel numpy register_hook register_post_accumulate_grad_hook requires_grad
retain_grad retains_grad shape size storage_offset stride tolist view_info views allclose
apply_ map_ map2_ set_ const_data_ptr dense_dim sparse_dim is_distributed is_set_to output_nr
get_device is_pinned pin_memory record_stream is_nonzero is_same_size is_signed ndimension
broadcast_shapes conj_physical_ dim_order to_sparse to_sparse_coo to_sparse_csr
can_cast compile equal from_dlpack from_numpy get_default_device get_default_dtype get_num_threads
get_quantized_matmul_precision get_rng_state initial_seed is_grad_enabled
is_inference_mode_enabled is_tensor load manual_seed promote_types result_type save seed
set_default_device set_default_dtype
set_num_threads set_quantized_matmul_precision set_printoptions set_rng_state
fork_rng vmap
"""
)
"""Names of what returns no tensor, or needs a file, another package or another device."""


def expressions(text: str) -> list[str]:
    return [e for line in text.splitlines() for e in re.split(r"\s{2,}", line.strip()) if e]


def rows() -> list[tuple[str, str, bool]]:
    """(expression, what its results are, whether it may be refused for the dtype) for all."""
    found = []
    for name in UNARY:
        found += [(f"{of}.{name}()", "copy", of in "ibse") for of in ("x", "i", "b", "s", "e")]
        found += [(f"v[:1].{name}()", "copy", True)]
    for name in BINARY:
        pairs = (("x", "y"), ("i", "j"), ("b", "b"), ("s", "s"), ("e", "e"))
        found += [(f"{a}.{name}({c})", "copy", True) for a, c in pairs]
    found += [(f"F.{name}({of})", "copy", False) for name in ACTIVATIONS for of in ("x", "s", "e")]
    for text, kind in ((COPIES, "copy"), (VIEWS, "view"), (ITSELF, "itself"), (IN_PLACE, "itself")):
        found += [(expression, kind, False) for expression in expressions(text)]
    return found


def tensors(library: Any, requires_grad: bool = False) -> dict[str, Any]:
    """The inputs of the expressions in that library; where a gradient is required, not leaves."""
    made = {}
    for name, array in INPUTS.items():
        dtype = getattr(library, array.dtype.name)
        made[name] = library.tensor(array.tolist(), dtype=dtype).reshape(array.shape).clone()
        if requires_grad and array.dtype.kind == "f":
            made[name] = made[name].requires_grad_() * 1
    return made


def results(library: Any, functional: Any, expression: str, given: dict[str, Any]) -> list[Any]:
    """The tensors that an expression gives."""
    return flat(eval(expression, {**given, "G": library, "F": functional}))


def flat(result: Any) -> list[Any]:
    return [t for r in result for t in flat(r)] if isinstance(result, (tuple, list)) else [result]


def kind_of(result: Any, given: dict[str, Any]) -> str:
    """What a result is to the tensors that the expression was given."""
    if any(result is tensor for tensor in given.values()):
        return "itself"
    array = numbers(result)
    shared = any(np.may_share_memory(array, numbers(tensor)) for tensor in given.values())
    return "view" if shared else "copy"


def numbers(tensor: Any) -> np.ndarray:
    """Its memory as an array. (Not of bfloat16, which NumPy lacks: then it is a copy.)"""
    tensor = tensor.detach()
    return (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()


def names(expressions: list[str]) -> set[str]:
    """The functions and methods that expressions call."""
    return {match for e in expressions for match in re.findall(r"\.([A-Za-z]\w*)", e)}
