"""Exercise `gelu`: the Gaussian error linear unit, exact and with tanh."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=1,
    hints=("a nudge", "the two cases", "pseudocode"),
    returns=("y",),
    forbidden=("gelu",),
    replaces="activation",
    choices={"approximate": ("none", "tanh")},
    gradients=("x",),
)
def gelu(x: Float[Tensor, "*shape"], approximate: str = "none") -> Float[Tensor, "*shape"]:
    """x · Φ(x), exactly or with the tanh form."""
    return F.gelu(x, approximate=approximate)


@gelu.values
def x(rng, shape):
    return 2 * torch.randn(shape, generator=rng)


@gelu.inputs
def _(rng):
    for approximate in ("none", "tanh"):  # the two forms differ most at ±2.7, by 0.0005
        shift = 0.05 * torch.rand((), generator=rng)
        yield torch.linspace(-4, 4, 41) + shift, approximate
    yield (torch.linspace(-3, 3, 13) + 0.02 * torch.randn(13, generator=rng),)


def _exact(x):
    """Right, for the mistakes that go wrong elsewhere."""
    return x * torch.special.ndtr(x)


def _with_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@gelu.mistake(hint=2)
def always_tanh(x, approximate="none"):
    """The tanh form is computed whatever `approximate` says: with "none", use the error function, `torch.erf`."""
    return _with_tanh(x)


@gelu.mistake(hint=2)
def always_exact(x, approximate="none"):
    """The exact form is computed whatever `approximate` says: with "tanh", it is the formula with tanh."""
    return _exact(x)


@gelu.mistake(hint=2)
def forms_exchanged(x, approximate="none"):
    """The two forms are exchanged: "none" means no approximation, so the error function."""
    return _exact(x) if approximate == "tanh" else _with_tanh(x)


@gelu.mistake(hint=2)
def tanh_unless_given(x, approximate="tanh"):
    """Without `approximate` yours computes the tanh form: the default is "none"."""
    return _exact(x) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=2)
def sigmoid_for_tanh(x, approximate="none"):
    """With "tanh" this is x · sigmoid(1.702 x), off by up to 0.02: use the tanh form."""
    return _exact(x) if approximate == "none" else x * torch.sigmoid(1.702 * x)


@gelu.mistake(hint=2)
def sigmoid_for_both(x, approximate="none"):
    """This is x · sigmoid(1.702 x), an approximation that is off by up to 0.02: neither of the two forms."""
    return x * torch.sigmoid(1.702 * x)


@gelu.mistake(hint=3)
def root_forgotten(x, approximate="none"):
    """In the tanh form the factor is 2/π, without its root: it is √(2/π)."""
    return _exact(x) if approximate == "none" else 0.5 * x * (1 + torch.tanh(2 / math.pi * (x + 0.044715 * x**3)))


@gelu.mistake(hint=3)
def square_for_cube(x, approximate="none"):
    """In the tanh form 0.044715 multiplies x², which has no sign: it is x³."""
    if approximate == "none":
        return _exact(x)
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**2)))


@gelu.mistake(hint=3)
def constant_on_both(x, approximate="none"):
    """In the tanh form 0.044715 multiplies x as well: it belongs to x³ alone."""
    if approximate == "none":
        return _exact(x)
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * 0.044715 * (x + x**3)))


@gelu.mistake(hint=3)
def cube_forgotten(x, approximate="none"):
    """In the tanh form the term with x³ is missing."""
    return _exact(x) if approximate == "none" else 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * x))


@gelu.mistake(hint=3)
def half_forgotten_in_tanh(x, approximate="none"):
    """The ½ of the tanh form is missing: every value is twice as large."""
    return _exact(x) if approximate == "none" else 2 * _with_tanh(x)


@gelu.mistake(hint=3)
def erf_without_root_two(x, approximate="none"):
    """The error function gets x: Φ(x) is ½ (1 + erf(x/√2)), so divide by √2 first."""
    return 0.5 * x * (1 + torch.erf(x)) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=3)
def half_forgotten_in_erf(x, approximate="none"):
    """The ½ of the exact form is missing: Φ goes from 0 to 1, and 1 + erf goes from 0 to 2."""
    return 2 * _exact(x) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=3)
def one_forgotten_in_erf(x, approximate="none"):
    """The 1 in ½ (1 + erf(x/√2)) is missing: Φ goes from 0 to 1, and erf alone from −1 to 1."""
    return 0.5 * x * torch.erf(x / math.sqrt(2)) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=1)
def density(x, approximate="none"):
    """This takes the density of the normal distribution, the bell curve: Φ is the area to the left of x, which erf
    gives."""
    return x * torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=1)
def factor_alone(x, approximate="none"):
    """These are the factors Φ(x), between 0 and 1: multiply each by its x."""
    if approximate == "none":
        return torch.special.ndtr(x)
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@gelu.mistake
def silu_instead(x, approximate="none"):
    """This is SiLU, x · sigmoid(x): GELU multiplies x by Φ(x)."""
    return F.silu(x)


@gelu.mistake
def relu_instead(x, approximate="none"):
    """This is ReLU: GELU lets small negative numbers through, too."""
    return F.relu(x)


def _inner(x):
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


@gelu.mistake(hint=3)
def erf_of_half(x, approximate="none"):
    """The error function gets x/2: divide by √2, the root of 2."""
    return 0.5 * x * (1 + torch.erf(x / 2)) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=3)
def erf_times_root_two(x, approximate="none"):
    """The error function gets x · √2: divide by √2."""
    return 0.5 * x * (1 + torch.erf(x * math.sqrt(2))) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=3)
def root_two_outside(x, approximate="none"):
    """The √2 divides the error function: it divides x, inside the brackets of erf."""
    return 0.5 * x * (1 + torch.erf(x) / math.sqrt(2)) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=3)
def root_two_rounded(x, approximate="none"):
    """The root of 2 is rounded to 1.414, which shows in the results: take `math.sqrt(2)`."""
    return 0.5 * x * (1 + torch.erf(x / 1.414)) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=3)
def erf_subtracted(x, approximate="none"):
    """This is 1 − erf, the area to the right of x: it is 1 + erf."""
    return 0.5 * x * (1 - torch.erf(x / math.sqrt(2))) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=3)
def complement_of_erf(x, approximate="none"):
    """This takes erfc, which is 1 − erf already: the formula has erf."""
    return 0.5 * x * (1 + torch.erfc(x / math.sqrt(2))) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=3)
def brackets_lost_in_erf(x, approximate="none"):
    """The brackets of 1 + erf are missing, so erf is added at the end, and ½ x multiplies the 1 alone."""
    return 0.5 * x * 1 + torch.erf(x / math.sqrt(2)) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=1)
def added_to_the_factor(x, approximate="none"):
    """The factor is added to ½ x: it multiplies."""
    return 0.5 * x + (1 + torch.erf(x / math.sqrt(2))) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=1)
def factor_alone_in_erf(x, approximate="none"):
    """With "none" these are the factors Φ(x), between 0 and 1: multiply each by its x."""
    return torch.special.ndtr(x) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=1)
def factor_alone_in_tanh(x, approximate="none"):
    """With "tanh" these are factors between 0 and 1: multiply each by its x."""
    return _exact(x) if approximate == "none" else 0.5 * (1 + torch.tanh(_inner(x)))


@gelu.mistake(hint=2)
def silu_for_exact(x, approximate="none"):
    """With "none" this is SiLU, x · sigmoid(x): GELU multiplies x by Φ(x), which the error function gives."""
    return F.silu(x) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=2)
def sigmoid_for_exact(x, approximate="none"):
    """With "none" this is x · sigmoid(1.702 x), off by up to 0.02: use the error function."""
    return x * torch.sigmoid(1.702 * x) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=2)
def standardized(x, approximate="none"):
    """Φ belongs to the normal distribution with mean 0 and deviation 1: yours takes both from the numbers in x."""
    if approximate == "none":
        return x * torch.distributions.Normal(x.mean(), x.std()).cdf(x)
    return _with_tanh(x)


@gelu.mistake(hint=2)
def math_for_erf(x, approximate="none"):
    """The function `math.erf` takes one number: for a tensor it is `torch.erf`."""
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2))) if approximate == "none" else _with_tanh(x)


@gelu.mistake(hint=2)
def math_for_both(x, approximate="none"):
    """The functions of `math` take one number: for a tensor they are `torch.erf` and `torch.tanh`."""
    return 0.5 * x * (1 + (math.erf(x) if approximate == "none" else math.tanh(x)))


def _tanh_form(argument):
    """An answer whose tanh form has a wrong argument."""
    return lambda x, approximate: _exact(x) if approximate == "none" else 0.5 * x * (1 + torch.tanh(argument(x)))


@gelu.mistake(hint=3)
def root_of_a_product(x, approximate="none"):
    """In the tanh form the root is taken of 2 · π: it is √(2/π)."""
    return _tanh_form(lambda x: math.sqrt(2 * math.pi) * (x + 0.044715 * x**3))(x, approximate)


@gelu.mistake(hint=3)
def root_upside_down(x, approximate="none"):
    """In the tanh form the fraction below the root is upside down: it is √(2/π)."""
    return _tanh_form(lambda x: math.sqrt(math.pi / 2) * (x + 0.044715 * x**3))(x, approximate)


@gelu.mistake(hint=3)
def root_of_two_alone(x, approximate="none"):
    """In the tanh form the root is taken of 2 alone, and π divides it: it is the root of the whole fraction, √(2/π)."""
    return _tanh_form(lambda x: math.sqrt(2) / math.pi * (x + 0.044715 * x**3))(x, approximate)


@gelu.mistake(hint=3)
def no_root_at_all(x, approximate="none"):
    """In the tanh form the factor √(2/π) is missing."""
    return _tanh_form(lambda x: x + 0.044715 * x**3)(x, approximate)


@gelu.mistake(hint=3)
def brackets_lost_in_tanh(x, approximate="none"):
    """In the tanh form √(2/π) multiplies x alone: brackets around x + 0.044715 x³, so that it multiplies both."""
    return _tanh_form(lambda x: math.sqrt(2 / math.pi) * x + 0.044715 * x**3)(x, approximate)


@gelu.mistake(hint=3)
def one_forgotten_in_tanh(x, approximate="none"):
    """In the tanh form the 1 is missing: the factor is ½ (1 + tanh(…)), and tanh alone goes from −1 to 1."""
    return _exact(x) if approximate == "none" else 0.5 * x * torch.tanh(_inner(x))


@gelu.mistake(hint=3)
def constant_cubed(x, approximate="none"):
    """In the tanh form the third power takes 0.044715 in: it is 0.044715 x³, without brackets around 0.044715 x."""
    return _tanh_form(lambda x: math.sqrt(2 / math.pi) * (x + (0.044715 * x) ** 3))(x, approximate)


@gelu.mistake(hint=3)
def power_forgotten(x, approximate="none"):
    """In the tanh form 0.044715 multiplies x: it is x³."""
    return _tanh_form(lambda x: math.sqrt(2 / math.pi) * (x + 0.044715 * x))(x, approximate)


@gelu.mistake(hint=3)
def product_for_sum(x, approximate="none"):
    """In the tanh form x and 0.044715 x³ are multiplied: add them."""
    return _tanh_form(lambda x: math.sqrt(2 / math.pi) * (x * 0.044715 * x**3))(x, approximate)


@gelu.mistake(hint=3)
def term_subtracted(x, approximate="none"):
    """In the tanh form 0.044715 x³ is subtracted: add it."""
    return _tanh_form(lambda x: math.sqrt(2 / math.pi) * (x - 0.044715 * x**3))(x, approximate)


@gelu.mistake(hint=3)
def constant_ten_times(x, approximate="none"):
    """In the tanh form the constant is ten times too large: 0.044715, with a zero behind the point."""
    return _tanh_form(lambda x: math.sqrt(2 / math.pi) * (x + 0.44715 * x**3))(x, approximate)


@gelu.mistake(hint=3)
def constant_without_a_digit(x, approximate="none"):
    """In the tanh form the constant lacks one of its two fours: 0.044715."""
    return _tanh_form(lambda x: math.sqrt(2 / math.pi) * (x + 0.04715 * x**3))(x, approximate)


@gelu.mistake(hint=3)
def constant_rounded(x, approximate="none"):
    """In the tanh form the constant is rounded to 0.044: it is 0.044715."""
    return _tanh_form(lambda x: math.sqrt(2 / math.pi) * (x + 0.044 * x**3))(x, approximate)


@gelu.finished
def gelu_by_formula(x, approximate="none"):
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


@gelu.accepted
def gelu_with_ndtr_and_sigmoid(x, approximate="none"):
    if approximate == "none":
        return x * torch.special.ndtr(x)
    return x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


@gelu.accepted
def gelu_with_erfc(x, approximate="none"):
    wide = x.double()
    if approximate == "none":
        return (wide * torch.erfc(-wide / 2**0.5) / 2).to(x.dtype)
    u = (2 / math.pi) ** 0.5 * (wide + 0.044715 * wide.pow(3))
    return (wide / (1 + torch.exp(-2 * u))).to(x.dtype)


@gelu.accepted
def gelu_of_a_distribution(x, approximate="none"):
    if approximate == "none":
        return x * torch.distributions.Normal(0.0, 1.0).cdf(x)
    return x / 2 + x / 2 * torch.tanh((2 / torch.pi) ** 0.5 * x * (1 + 0.044715 * x**2))
