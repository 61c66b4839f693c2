"""Modified Bessel functions of the first kind, of orders 0 to 2, for numbers of float64."""

from __future__ import annotations

import math

from gradient.backends.numpy.kernels.arithmetic import choose, polynomial
from gradient.backends.numpy.kernels.compilation import of_numbers
from gradient.backends.numpy.kernels.functions import exp

# Of I_n(x) / x^n in x^2 for x up to 8, and of sqrt(x) exp(-x) I_n(x) in 1 / x - 1 / 16 from there.
I0_NEAR = (
    8.566989276282922e-34, 4.199206922649807e-31, 3.9335514276768953e-28, 2.590172843903878e-25,
    1.4967788501780042e-22, 7.242074015729702e-20, 2.8969089122345617e-17, 9.385965799643524e-15,
    2.402807567833284e-12, 4.709502795105168e-10, 6.781684027919248e-08, 6.781684027771295e-06,
    0.00043402777777779505, 0.015624999999999977, 0.25, 1.0,
)  # fmt: skip
I0_FAR = (
    2.774794127522013e+16, 763392773925247.8, -776748515183749.2, -22410314614241.684,
    10154534297554.902, 336673279373.18005, -83325285094.06114, -3664263170.6770425,
    469452501.86351806, 33185257.117041368, -1411860.7631085296, -234705.62639377633,
    -7538.5004275999345, 518.0678751052473, 92.6319688199614, 10.557055652736583,
    1.4884779971961135, 0.3118042252711497, 0.09724544107717963, 0.04564186643391913,
    0.034871315043762875, 0.05376883173868469, 0.4021765094450081,
)  # fmt: skip
I1_NEAR = (
    2.6312714877897244e-35, 1.4203448849872467e-32, 1.4006963101490211e-29, 9.967129874858695e-27,
    6.2361932269568166e-24, 3.2918726864981567e-21, 1.4484536547598581e-18, 5.214425664522384e-16,
    1.501754725579542e-13, 3.3639305685260097e-11, 5.651403356543633e-09, 6.781684027774708e-07,
    5.4253472222223114e-05, 0.0026041666666666652, 0.0625, 0.5,
)  # fmt: skip
I1_FAR = (
    -2.890369003616833e+16, -713291186339360.6, 810231947216653.4, 21147609561519.266,
    -10620537342658.963, -323332949744.8854, 87630408429.41713, 3609673285.7863126,
    -499899227.5927481, -33674728.12931374, 1568010.726249808, 245832.94669704325,
    7528.532922599639, -578.1857575699395, -100.47574818355203, -11.577935241516954,
    -1.6779030231910488, -0.3653085903152693, -0.12025267771606508, -0.061597889356435155,
    -0.05612435554088389, -0.15599323509177085, 0.38939845902587233,
)  # fmt: skip
I2_NEAR = (
    7.59926828123043e-37, 4.502512534852472e-34, 4.655867768926888e-31, 3.5612842483467372e-28,
    2.3984080623374404e-25, 1.371620722194397e-22, 6.583877441476899e-20, 2.6072129118579773e-17,
    8.34308179264807e-15, 2.1024566055586795e-12, 4.0367166832230433e-10, 5.6514033564803475e-08,
    5.425347222222257e-06, 0.00032552083333333326, 0.010416666666666666, 0.125,
)  # fmt: skip
I2_FAR = (
    3.2643882918556576e+16, 529052315861497.56, -917541488668046.5, -16451549893763.648,
    12105737918531.396, 271950100508.85953, -101391895880.5715, -3359599159.286049,
    598987323.1294024, 34810851.01286662, -2098986.206204843, -281309.7466273871,
    -7323.808728831877, 792.0685995580209, 128.34773149338864, 15.359655176785964,
    2.4288328894982176, 0.5979732979372342, 0.23547280453653693, 0.1655903136641492,
    0.353873329669913, -0.7055289319265877, 0.35350170206677406,
)  # fmt: skip

_near_0, _near_1, _near_2 = polynomial(I0_NEAR), polynomial(I1_NEAR), polynomial(I2_NEAR)
_far_0, _far_1, _far_2 = polynomial(I0_FAR), polynomial(I1_FAR), polynomial(I2_FAR)
NEAR = 8.0


@of_numbers
def is_small(x):
    return abs(x) < NEAR


@of_numbers
def _signed(y, x, order):
    return choose(x < 0.0, -y, y) if order == 1 else y


@of_numbers
def _near(a, order):
    q = a * a
    return _near_0(q) if order == 0 else a * _near_1(q) if order == 1 else q * _near_2(q)


@of_numbers
def _far(a, order):
    """exp(-a) I_n(a) for a from NEAR on."""
    inverse = 1.0 / a
    t = inverse - 0.0625
    return (_far_0(t) if order == 0 else _far_1(t) if order == 1 else _far_2(t)) * math.sqrt(
        inverse
    )


@of_numbers
def near(x, order):
    """I_n(x) for small x."""
    return _signed(_near(abs(x), order), x, order)


@of_numbers
def near_scaled(x, order):
    """exp(-|x|) I_n(x) for small x."""
    return exp(-abs(x)) * near(x, order)


@of_numbers
def scaled(x, order):
    """exp(-|x|) I_n(x)"""
    a = abs(x)
    low, high = choose(a < NEAR, a, NEAR), choose(a < NEAR, NEAR, a)
    y = choose(a < NEAR, exp(-low) * _near(low, order), _far(high, order))
    return _signed(y, x, order)


@of_numbers
def whole(x, order):
    """I_n(x)"""
    a = abs(x)
    low, high = choose(a < NEAR, a, NEAR), choose(a < NEAR, NEAR, a)
    y = choose(a < NEAR, _near(low, order), exp(high) * _far(high, order))
    return _signed(y, x, order)
