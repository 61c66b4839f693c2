"""The functions of the `gradient` namespace that are methods of Tensor: `gradient.exp(x)` is
`x.exp()`. The first parameter is called `input`, as in PyTorch; the others are the method's.

`gradient` exports all functions of this file. Each is made at its first use, because a program uses
few of them. (There is no `__all__`, which would repeat every name.)
"""

from collections.abc import Callable as _Callable
from collections.abc import Sequence as _Sequence
from types import FunctionType as _FunctionType
from typing import TYPE_CHECKING
from typing import Any as _Any
from typing import Concatenate as _Concatenate
from typing import ParamSpec as _ParamSpec
from typing import Protocol as _Protocol
from typing import TypeVar as _TypeVar

from gradient.autograd.forwarding import forwarded as _forwarded
from gradient.tensor.arguments import tensor_of as _tensor_of
from gradient.tensor.arguments import tuple_argument as _tuple_argument
from gradient.tensor.core import Tensor
from gradient.tensor.creation import arange as _arange

_P = _ParamSpec("_P")
_R = _TypeVar("_R")
_R_co = _TypeVar("_R_co", covariant=True)


if TYPE_CHECKING:

    class _Function(_Protocol[_P, _R_co]):
        """A function whose first parameter, a tensor, is called `input`, as in PyTorch."""

        def __call__(self, input: Tensor, *args: _P.args, **options: _P.kwargs) -> _R_co: ...


def _of(method: _Callable[_Concatenate[Tensor, _P], _R]) -> "_Function[_P, _R]":
    """Return the method. Type checkers see a function; `__getattr__` makes it one."""
    function: _Any = method
    return function


def _of_overloaded(
    method: _Callable[_Concatenate[Tensor, _P], _R],
) -> _Callable[_Concatenate[Tensor, _P], _R]:
    """Like `_of`, for a method with overloads, which a class like `_Function` would lose."""
    return method


# Elementwise
abs = absolute = _of(Tensor.abs)
acos = arccos = _of(Tensor.acos)
acosh = arccosh = _of(Tensor.acosh)
add = _of(Tensor.add)
addcdiv = _of(Tensor.addcdiv)
addcmul = _of(Tensor.addcmul)
angle = _of(Tensor.angle)
asin = arcsin = _of(Tensor.asin)
asinh = arcsinh = _of(Tensor.asinh)
atan = arctan = _of(Tensor.atan)
atan2 = arctan2 = _of(Tensor.atan2)
atanh = arctanh = _of(Tensor.atanh)
bitwise_and = _of(Tensor.bitwise_and)
bitwise_left_shift = _of(Tensor.bitwise_left_shift)
bitwise_not = _of(Tensor.bitwise_not)
bitwise_or = _of(Tensor.bitwise_or)
bitwise_right_shift = _of(Tensor.bitwise_right_shift)
bitwise_xor = _of(Tensor.bitwise_xor)
ceil = _of(Tensor.ceil)
clamp = clip = _of(Tensor.clamp)
clamp_max = _of(Tensor.clamp_max)
clamp_min = _of(Tensor.clamp_min)
conj = _of(Tensor.conj)
conj_physical = _of(Tensor.conj_physical)
copysign = _of(Tensor.copysign)
cos = _of(Tensor.cos)
cosh = _of(Tensor.cosh)
deg2rad = _of(Tensor.deg2rad)
digamma = _of(Tensor.digamma)
div = divide = true_divide = _of(Tensor.div)
eq = _of(Tensor.eq)
erf = _of(Tensor.erf)
erfc = _of(Tensor.erfc)
erfinv = _of(Tensor.erfinv)
exp = _of(Tensor.exp)
exp2 = _of(Tensor.exp2)
expm1 = _of(Tensor.expm1)
float_power = _of(Tensor.float_power)
floor = _of(Tensor.floor)
floor_divide = _of(Tensor.floor_divide)
fmax = _of(Tensor.fmax)
fmin = _of(Tensor.fmin)
fmod = _of(Tensor.fmod)
frac = _of(Tensor.frac)
frexp = _of(Tensor.frexp)
gcd = _of(Tensor.gcd)
ge = greater_equal = _of(Tensor.ge)
get_device = _of(Tensor.get_device)
gt = greater = _of(Tensor.gt)
heaviside = _of(Tensor.heaviside)
hypot = _of(Tensor.hypot)
i0 = _of(Tensor.i0)
igamma = _of(Tensor.igamma)
igammac = _of(Tensor.igammac)
is_nonzero = _of(Tensor.is_nonzero)
is_same_size = _of(Tensor.is_same_size)
is_signed = _of(Tensor.is_signed)
isclose = _of(Tensor.isclose)
isfinite = _of(Tensor.isfinite)
isinf = _of(Tensor.isinf)
isnan = _of(Tensor.isnan)
isneginf = _of(Tensor.isneginf)
isposinf = _of(Tensor.isposinf)
isreal = _of(Tensor.isreal)
lcm = _of(Tensor.lcm)
ldexp = _of(Tensor.ldexp)
le = less_equal = _of(Tensor.le)
lerp = _of(Tensor.lerp)
lgamma = _of(Tensor.lgamma)
log = _of(Tensor.log)
log10 = _of(Tensor.log10)
log1p = _of(Tensor.log1p)
log2 = _of(Tensor.log2)
logaddexp = _of(Tensor.logaddexp)
logaddexp2 = _of(Tensor.logaddexp2)
logical_and = _of(Tensor.logical_and)
logical_not = _of(Tensor.logical_not)
logical_or = _of(Tensor.logical_or)
logical_xor = _of(Tensor.logical_xor)
logit = _of(Tensor.logit)
lt = less = _of(Tensor.lt)
masked_fill = _of(Tensor.masked_fill)
maximum = _of(Tensor.maximum)
minimum = _of(Tensor.minimum)
mul = multiply = _of(Tensor.mul)
mvlgamma = _of(Tensor.mvlgamma)
nan_to_num = _of(Tensor.nan_to_num)
ne = not_equal = _of(Tensor.ne)
neg = negative = _of(Tensor.neg)
nextafter = _of(Tensor.nextafter)
positive = _of(Tensor.positive)
pow = _of(Tensor.pow)
rad2deg = _of(Tensor.rad2deg)
reciprocal = _of(Tensor.reciprocal)
relu = _of(Tensor.relu)
remainder = _of(Tensor.remainder)
resolve_conj = _of(Tensor.resolve_conj)
resolve_neg = _of(Tensor.resolve_neg)
round = _of(Tensor.round)
rsqrt = _of(Tensor.rsqrt)
rsub = _of(Tensor.rsub)
sgn = _of(Tensor.sgn)
sigmoid = _of(Tensor.sigmoid)
sign = _of(Tensor.sign)
signbit = _of(Tensor.signbit)
sin = _of(Tensor.sin)
sinc = _of(Tensor.sinc)
sinh = _of(Tensor.sinh)
sqrt = _of(Tensor.sqrt)
square = _of(Tensor.square)
sub = subtract = _of(Tensor.sub)
tan = _of(Tensor.tan)
tanh = _of(Tensor.tanh)
trunc = _of(Tensor.trunc)
xlogy = _of(Tensor.xlogy)


@_forwarded
def polygamma(n: int, input: Tensor) -> Tensor:
    """`input.polygamma(n)`"""
    return _tensor_of("polygamma", input).polygamma(n)


# Reductions
all = _of(Tensor.all)
amax = _of(Tensor.amax)
amin = _of(Tensor.amin)
aminmax = _of(Tensor.aminmax)
any = _of(Tensor.any)
argmax = _of(Tensor.argmax)
argmin = _of(Tensor.argmin)
argsort = _of(Tensor.argsort)
bincount = _of(Tensor.bincount)
corrcoef = _of(Tensor.corrcoef)
count_nonzero = _of(Tensor.count_nonzero)
cov = _of(Tensor.cov)
cummax = _of(Tensor.cummax)
cummin = _of(Tensor.cummin)
cumprod = _of(Tensor.cumprod)
cumsum = _of(Tensor.cumsum)
dist = _of(Tensor.dist)
kthvalue = _of(Tensor.kthvalue)
log_softmax = _of(Tensor.log_softmax)
logcumsumexp = _of(Tensor.logcumsumexp)
logsumexp = _of(Tensor.logsumexp)
max = _of_overloaded(Tensor.max)
mean = _of(Tensor.mean)
median = _of_overloaded(Tensor.median)
min = _of_overloaded(Tensor.min)
mode = _of(Tensor.mode)
nanmean = _of(Tensor.nanmean)
nanmedian = _of(Tensor.nanmedian)
nanquantile = _of(Tensor.nanquantile)
nansum = _of(Tensor.nansum)
norm = _of(Tensor.norm)
prod = _of(Tensor.prod)
quantile = _of(Tensor.quantile)
renorm = _of(Tensor.renorm)
softmax = _of(Tensor.softmax)
sort = _of(Tensor.sort)
std = _of(Tensor.std)
std_mean = _of(Tensor.std_mean)
sum = _of(Tensor.sum)
topk = _of(Tensor.topk)
unique = _of_overloaded(Tensor.unique)
unique_consecutive = _of(Tensor.unique_consecutive)
var = _of(Tensor.var)
var_mean = _of(Tensor.var_mean)

# Shape
as_strided = _of(Tensor.as_strided)
as_strided_scatter = _of(Tensor.as_strided_scatter)
chunk = _of(Tensor.chunk)
diag = _of(Tensor.diag)
diag_embed = _of(Tensor.diag_embed)
diagflat = _of(Tensor.diagflat)
diagonal = _of(Tensor.diagonal)
diagonal_scatter = _of(Tensor.diagonal_scatter)
diff = _of(Tensor.diff)
dsplit = _of(Tensor.dsplit)
flatten = _of(Tensor.flatten)
fliplr = _of(Tensor.fliplr)
flipud = _of(Tensor.flipud)
hsplit = _of(Tensor.hsplit)
movedim = moveaxis = _of(Tensor.movedim)
msort = _of(Tensor.msort)
narrow = _of(Tensor.narrow)
ravel = _of(Tensor.ravel)
roll = _of(Tensor.roll)
rot90 = _of(Tensor.rot90)
select = _of(Tensor.select)
select_scatter = _of(Tensor.select_scatter)
slice_scatter = _of(Tensor.slice_scatter)
split_with_sizes = _of(Tensor.split_with_sizes)
squeeze = _of(Tensor.squeeze)
swapaxes = _of(Tensor.swapaxes)
t = _of(Tensor.t)
tensor_split = _of(Tensor.tensor_split)
trace = _of(Tensor.trace)
transpose = swapdims = _of(Tensor.transpose)
tril = _of(Tensor.tril)
triu = _of(Tensor.triu)
unbind = _of(Tensor.unbind)
unflatten = _of(Tensor.unflatten)
unsqueeze = _of(Tensor.unsqueeze)
vsplit = _of(Tensor.vsplit)


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
    """`input.repeat_interleave(repeats, dim)`; `input` alone has counts: repeat index i input[i]
    times."""
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
argwhere = _of(Tensor.argwhere)
gather = _of(Tensor.gather)
index_add = _of(Tensor.index_add)
index_copy = _of(Tensor.index_copy)
index_fill = _of(Tensor.index_fill)
index_put = _of(Tensor.index_put)
index_reduce = _of(Tensor.index_reduce)
index_select = _of(Tensor.index_select)
masked_scatter = _of(Tensor.masked_scatter)
masked_select = _of(Tensor.masked_select)
put = _of(Tensor.put)
nonzero = _of_overloaded(Tensor.nonzero)
scatter = _of(Tensor.scatter)
scatter_add = _of(Tensor.scatter_add)
scatter_reduce = _of(Tensor.scatter_reduce)
take = _of(Tensor.take)
take_along_dim = _of(Tensor.take_along_dim)

# Products
addbmm = _of(Tensor.addbmm)
addmm = _of(Tensor.addmm)
addmv = _of(Tensor.addmv)
addr = _of(Tensor.addr)
baddbmm = _of(Tensor.baddbmm)
bmm = _of(Tensor.bmm)
clone = _of(Tensor.clone)
cross = _of(Tensor.cross)
detach = _of(Tensor.detach)
dot = _of(Tensor.dot)
inner = _of(Tensor.inner)
kron = _of(Tensor.kron)
matmul = _of(Tensor.matmul)
mm = _of(Tensor.mm)
mv = _of(Tensor.mv)
outer = _of(Tensor.outer)
vdot = _of(Tensor.vdot)


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

        found = as_function(_methods[name], name)
        if found is not _methods[name]:
            found.__module__, found.__qualname__ = __name__, name  # for pickle
        return globals().setdefault(name, found)
