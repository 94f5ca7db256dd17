"""What the layers need and the Array API standard lacks."""

import math
from importlib import import_module

from autograd.extend import defvjp

from .differentiable import primitive
from .namespace import array_namespace, library_of

# (1 + 2s) exp(s²) erfc(s) as a polynomial in t = (s − 3.75)/(s + 3.75), −1 ≤ t < 1, lowest power
# first: the variable of Shepherd and Laframboise (Math. Comp. 36, 1981), fitted at 80 Chebyshev
# nodes in 50 digits; what is cut off sums to 6e-17.
_TAIL = (
    1.2375126308378275,
    -0.14024059858554697,
    0.0035854154854790257,
    0.0822767384901452,
    -0.10880393014244462,
    0.09230432116037748,
    -0.05869339857664934,
    0.028362277418956406,
    -0.009746579683265262,
    0.0017556258528952954,
    0.000293714378044958,
    -0.0002901540805408417,
    5.164652974177416e-05,
    2.238423915508223e-05,
    -1.1438048033346894e-05,
    -9.73559896736775e-07,
    1.7419821586224816e-06,
    -5.7218230603224086e-08,
    -2.4857126248016745e-07,
    2.3263508708859124e-08,
    3.197926671666804e-08,
    -3.744210080962018e-09,
    -2.623107347133476e-09,
    3.1114333809799254e-10,
)


def _horner(t, coefficients):
    """The polynomial's value at t; writes to what it has made itself."""
    result = t * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        result += coefficient
        result *= t
    result += coefficients[0]
    return result


def _erfc_of_jax(x):
    return import_module("jax.scipy.special").erfc(x)


def _erfc_of_torch(x):
    return import_module("torch").special.erfc(x)


# Theirs are compiled as one operation, and have a derivative of their own.
_ERFC = {"jax": _erfc_of_jax, "torch": _erfc_of_torch}


@primitive
def normal_cdf(x):
    """Return the standard normal distribution function of each element.

        Φ(x) = ½ erfc(−x/√2)

    Shapes: any. Absolute error at most 4e-16 in float64, relative error 2e-14 down to x = −10.
    The standard has no erfc: PyTorch and JAX have one, elsewhere it is a polynomial.
    Φ(−x) = 1 − Φ(x).
    """
    erfc = _ERFC.get(library_of(x).name)
    if erfc is not None:
        return 0.5 * erfc(x * -math.sqrt(0.5))
    xp = array_namespace(x)
    z = xp.abs(x)
    z = xp.where(z > 40.0, 40.0, z)  # Φ(−40) is 0 in float64, and t needs a finite z
    s = z * math.sqrt(0.5)
    t = (s - 3.75) / (s + 3.75)
    below = 0.5 * xp.exp(-0.5 * z * z) * _horner(t, _TAIL) / (1.0 + 2.0 * s)
    return xp.where(x < 0.0, below, 1.0 - below)


def _density(x):
    """φ(x) = exp(−x²/2)/√(2π), the derivative of Φ."""
    xp = array_namespace(x)
    return xp.multiply(xp.exp(xp.multiply(xp.square(x), -0.5)), 1.0 / math.sqrt(2.0 * math.pi))


defvjp(normal_cdf, lambda ans, x: lambda g: array_namespace(g, x).multiply(g, _density(x)))


# artanh(2Φ(x) − 1)/x as a polynomial in x², lowest power first, for float32: fitted to the least
# error of Φ over |x| ≤ 6, 2.9e-8; beyond, tanh is 1 to the last digit.
_ARTANH = (
    0.7978849414607478,
    0.03633308457210654,
    -3.2594973343722746e-05,
    -5.530619473494345e-05,
    3.964744622196e-06,
    -1.3226335717637968e-07,
    1.7561712669055558e-09,
)


def normal_cdf_float32(xp, x):
    """Return Φ(x) = ½(1 + tanh(x P(x²))) of an array of float32 that is not traced.

    Absolute error at most 2e-7; in half the time of `normal_cdf`, which also keeps the digits of a
    small Φ.
    """
    x = xp.clip(x, -8.0, 8.0)  # where Φ is 0 or 1 already, and no power overflows
    result = _horner(x * x, _ARTANH)
    result *= x
    result = xp.tanh(result)
    result *= 0.5
    result += 0.5
    return result
