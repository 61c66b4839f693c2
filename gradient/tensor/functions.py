"""The functions of the `gradient` namespace that are methods of Tensor: `gradient.exp(x)` is
`x.exp()`, and takes the same arguments after it. The first one is called `input`, as in PyTorch.

`gradient` has all of the file's functions. Each is made when it is first named: a program names few
of them. (A list of them would say each a second time.)
"""

from collections.abc import Sequence as _Sequence
from types import FunctionType as _FunctionType
from typing import TYPE_CHECKING
from typing import Any as _Any

from gradient.autograd.forwarding import forwarded as _forwarded
from gradient.tensor.arguments import tensor_of as _tensor_of
from gradient.tensor.arguments import tuple_argument as _tuple_argument
from gradient.tensor.core import Tensor
from gradient.tensor.creation import arange as _arange

# Elementwise
abs = absolute = Tensor.abs
acos = arccos = Tensor.acos
acosh = arccosh = Tensor.acosh
add = Tensor.add
addcdiv = Tensor.addcdiv
addcmul = Tensor.addcmul
angle = Tensor.angle
asin = arcsin = Tensor.asin
asinh = arcsinh = Tensor.asinh
atan = arctan = Tensor.atan
atan2 = arctan2 = Tensor.atan2
atanh = arctanh = Tensor.atanh
bitwise_and = Tensor.bitwise_and
bitwise_left_shift = Tensor.bitwise_left_shift
bitwise_not = Tensor.bitwise_not
bitwise_or = Tensor.bitwise_or
bitwise_right_shift = Tensor.bitwise_right_shift
bitwise_xor = Tensor.bitwise_xor
ceil = Tensor.ceil
clamp = clip = Tensor.clamp
clamp_max = Tensor.clamp_max
clamp_min = Tensor.clamp_min
conj = Tensor.conj
conj_physical = Tensor.conj_physical
copysign = Tensor.copysign
cos = Tensor.cos
cosh = Tensor.cosh
deg2rad = Tensor.deg2rad
digamma = Tensor.digamma
div = divide = true_divide = Tensor.div
eq = Tensor.eq
erf = Tensor.erf
erfc = Tensor.erfc
erfinv = Tensor.erfinv
exp = Tensor.exp
exp2 = Tensor.exp2
expm1 = Tensor.expm1
float_power = Tensor.float_power
floor = Tensor.floor
floor_divide = Tensor.floor_divide
fmax = Tensor.fmax
fmin = Tensor.fmin
fmod = Tensor.fmod
frac = Tensor.frac
frexp = Tensor.frexp
gcd = Tensor.gcd
ge = greater_equal = Tensor.ge
get_device = Tensor.get_device
gt = greater = Tensor.gt
heaviside = Tensor.heaviside
hypot = Tensor.hypot
i0 = Tensor.i0
igamma = Tensor.igamma
igammac = Tensor.igammac
is_nonzero = Tensor.is_nonzero
is_same_size = Tensor.is_same_size
is_signed = Tensor.is_signed
isclose = Tensor.isclose
isfinite = Tensor.isfinite
isinf = Tensor.isinf
isnan = Tensor.isnan
isneginf = Tensor.isneginf
isposinf = Tensor.isposinf
isreal = Tensor.isreal
lcm = Tensor.lcm
ldexp = Tensor.ldexp
le = less_equal = Tensor.le
lerp = Tensor.lerp
lgamma = Tensor.lgamma
log = Tensor.log
log10 = Tensor.log10
log1p = Tensor.log1p
log2 = Tensor.log2
logaddexp = Tensor.logaddexp
logaddexp2 = Tensor.logaddexp2
logical_and = Tensor.logical_and
logical_not = Tensor.logical_not
logical_or = Tensor.logical_or
logical_xor = Tensor.logical_xor
logit = Tensor.logit
lt = less = Tensor.lt
masked_fill = Tensor.masked_fill
maximum = Tensor.maximum
minimum = Tensor.minimum
mul = multiply = Tensor.mul
mvlgamma = Tensor.mvlgamma
nan_to_num = Tensor.nan_to_num
ne = not_equal = Tensor.ne
neg = negative = Tensor.neg
nextafter = Tensor.nextafter
positive = Tensor.positive
pow = Tensor.pow
rad2deg = Tensor.rad2deg
reciprocal = Tensor.reciprocal
relu = Tensor.relu
remainder = Tensor.remainder
resolve_conj = Tensor.resolve_conj
resolve_neg = Tensor.resolve_neg
round = Tensor.round
rsqrt = Tensor.rsqrt
rsub = Tensor.rsub
sgn = Tensor.sgn
sigmoid = Tensor.sigmoid
sign = Tensor.sign
signbit = Tensor.signbit
sin = Tensor.sin
sinc = Tensor.sinc
sinh = Tensor.sinh
sqrt = Tensor.sqrt
square = Tensor.square
sub = subtract = Tensor.sub
tan = Tensor.tan
tanh = Tensor.tanh
trunc = Tensor.trunc
xlogy = Tensor.xlogy


@_forwarded
def polygamma(n: int, input: Tensor) -> Tensor:
    """`input.polygamma(n)`"""
    return _tensor_of("polygamma", input).polygamma(n)


# Reductions
all = Tensor.all
amax = Tensor.amax
amin = Tensor.amin
aminmax = Tensor.aminmax
any = Tensor.any
argmax = Tensor.argmax
argmin = Tensor.argmin
argsort = Tensor.argsort
bincount = Tensor.bincount
corrcoef = Tensor.corrcoef
count_nonzero = Tensor.count_nonzero
cov = Tensor.cov
cummax = Tensor.cummax
cummin = Tensor.cummin
cumprod = Tensor.cumprod
cumsum = Tensor.cumsum
dist = Tensor.dist
kthvalue = Tensor.kthvalue
log_softmax = Tensor.log_softmax
logcumsumexp = Tensor.logcumsumexp
logsumexp = Tensor.logsumexp
max = Tensor.max
mean = Tensor.mean
median = Tensor.median
min = Tensor.min
mode = Tensor.mode
nanmean = Tensor.nanmean
nanmedian = Tensor.nanmedian
nanquantile = Tensor.nanquantile
nansum = Tensor.nansum
norm = Tensor.norm
prod = Tensor.prod
quantile = Tensor.quantile
renorm = Tensor.renorm
softmax = Tensor.softmax
sort = Tensor.sort
std = Tensor.std
std_mean = Tensor.std_mean
sum = Tensor.sum
topk = Tensor.topk
unique = Tensor.unique
unique_consecutive = Tensor.unique_consecutive
var = Tensor.var
var_mean = Tensor.var_mean

# Shape
as_strided = Tensor.as_strided
as_strided_scatter = Tensor.as_strided_scatter
chunk = Tensor.chunk
diag = Tensor.diag
diag_embed = Tensor.diag_embed
diagflat = Tensor.diagflat
diagonal = Tensor.diagonal
diagonal_scatter = Tensor.diagonal_scatter
diff = Tensor.diff
dsplit = Tensor.dsplit
flatten = Tensor.flatten
fliplr = Tensor.fliplr
flipud = Tensor.flipud
hsplit = Tensor.hsplit
movedim = moveaxis = Tensor.movedim
msort = Tensor.msort
narrow = Tensor.narrow
ravel = Tensor.ravel
roll = Tensor.roll
rot90 = Tensor.rot90
select = Tensor.select
select_scatter = Tensor.select_scatter
slice_scatter = Tensor.slice_scatter
split_with_sizes = Tensor.split_with_sizes
squeeze = Tensor.squeeze
swapaxes = Tensor.swapaxes
t = Tensor.t
tensor_split = Tensor.tensor_split
trace = Tensor.trace
transpose = swapdims = Tensor.transpose
tril = Tensor.tril
triu = Tensor.triu
unbind = Tensor.unbind
unflatten = Tensor.unflatten
unsqueeze = Tensor.unsqueeze
vsplit = Tensor.vsplit


def broadcast_to(input: Tensor, size: _Sequence[int]) -> Tensor:
    """`input.expand(size)`"""
    return _tensor_of("broadcast_to", input).expand(_tuple_argument("broadcast_to", "size", size))


def flip(input: Tensor, dims: _Sequence[int]) -> Tensor:
    """`input.flip(dims)`"""
    return _tensor_of("flip", input).flip(_tuple_argument("flip", "dims", dims))


def permute(input: Tensor, dims: _Sequence[int]) -> Tensor:
    """`input.permute(dims)`"""
    return _tensor_of("permute", input).permute(_tuple_argument("permute", "dims", dims))


def repeat_interleave(
    input: Tensor,
    repeats: int | Tensor | None = None,
    dim: int | None = None,
    *,
    output_size: int | None = None,
) -> Tensor:
    """`input.repeat_interleave(repeats, dim)`; of counts alone, each index as often as it says."""
    if repeats is None:
        places = _arange(_tensor_of("repeat_interleave", input).numel(), device=input.device)
        return places.repeat_interleave(input, output_size=output_size)
    return _tensor_of("repeat_interleave", input).repeat_interleave(
        repeats, dim, output_size=output_size
    )


def reshape(input: Tensor, shape: _Sequence[int]) -> Tensor:
    """`input.reshape(shape)`"""
    return _tensor_of("reshape", input).reshape(_tuple_argument("reshape", "shape", shape))


def tile(input: Tensor, dims: _Sequence[int]) -> Tensor:
    """`input.tile(dims)`"""
    return _tensor_of("tile", input).tile(_tuple_argument("tile", "dims", dims))


def split(
    tensor: Tensor, split_size_or_sections: int | _Sequence[int], dim: int = 0
) -> tuple[Tensor, ...]:
    """`tensor.split(split_size_or_sections, dim)`"""
    return _tensor_of("split", tensor).split(split_size_or_sections, dim)


# Indexing
argwhere = Tensor.argwhere
gather = Tensor.gather
index_add = Tensor.index_add
index_copy = Tensor.index_copy
index_fill = Tensor.index_fill
index_put = Tensor.index_put
index_reduce = Tensor.index_reduce
index_select = Tensor.index_select
masked_scatter = Tensor.masked_scatter
masked_select = Tensor.masked_select
put = Tensor.put
nonzero = Tensor.nonzero
scatter = Tensor.scatter
scatter_add = Tensor.scatter_add
scatter_reduce = Tensor.scatter_reduce
take = Tensor.take
take_along_dim = Tensor.take_along_dim

# Products
addbmm = Tensor.addbmm
addmm = Tensor.addmm
addmv = Tensor.addmv
addr = Tensor.addr
baddbmm = Tensor.baddbmm
bmm = Tensor.bmm
clone = Tensor.clone
cross = Tensor.cross
detach = Tensor.detach
dot = Tensor.dot
inner = Tensor.inner
kron = Tensor.kron
matmul = Tensor.matmul
mm = Tensor.mm
mv = Tensor.mv
outer = Tensor.outer
vdot = Tensor.vdot


if not TYPE_CHECKING:  # checkers take the methods for the functions
    _methods = {
        name: globals().pop(name)
        for name, value in tuple(globals().items())
        if isinstance(value, _FunctionType) and not name.startswith("_")
    }
    __all__ = list(_methods)

    def __getattr__(name: str) -> _Any:
        if name not in _methods:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from gradient.tensor.as_function import as_function

        return globals().setdefault(name, as_function(_methods[name], name))
