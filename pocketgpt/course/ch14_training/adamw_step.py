"""Exercise `adamw_step`: one update of one tensor by AdamW."""

from types import SimpleNamespace

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=3, returns=("p", "m", "v"), order=("m", "v", "p"), forbidden=("adamw", "adam"))
def adamw_step(
    p: Float[Tensor, "*shape"],
    grad: Float[Tensor, "*shape"],
    m: Float[Tensor, "*shape"],
    v: Float[Tensor, "*shape"],
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """One step of torch.optim.AdamW, which continues from m and v."""
    parameter = torch.nn.Parameter(p.detach().clone())
    optimizer = torch.optim.AdamW([parameter], lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay, foreach=False)
    optimizer.state[parameter] = {
        "step": torch.tensor(step - 1.0),
        "exp_avg": m.detach().clone(),
        "exp_avg_sq": v.detach().clone(),
    }
    parameter.grad = grad.detach().clone()
    optimizer.step()
    state = optimizer.state[parameter]
    return parameter.detach(), state["exp_avg"], state["exp_avg_sq"]


def _uniform(rng, low, high):
    return low + (high - low) * torch.rand((), generator=rng).item()


@adamw_step.values
def v(rng, shape):
    return torch.randn(shape, generator=rng).square() + 0.1


@adamw_step.values
def step(rng):
    return 1 + int(torch.randint(6, (), generator=rng))


@adamw_step.values
def lr(rng):
    return _uniform(rng, 0.2, 0.4)


@adamw_step.values
def beta1(rng):
    return _uniform(rng, 0.6, 0.7)


@adamw_step.values
def beta2(rng):
    return _uniform(rng, 0.8, 0.9)


@adamw_step.values
def eps(rng):
    return _uniform(rng, 0.1, 0.2)  # so large that its place shows


@adamw_step.values
def decay(rng):
    return _uniform(rng, 0.3, 0.6)


@adamw_step.inputs
def _(rng):
    for shape in [(3,), (2, 5)]:  # the first step
        p, grad = torch.randn(2, *shape, generator=rng)
        grad[..., 0] = 0.05  # its root is below eps
        yield p, grad, torch.zeros(shape), torch.zeros(shape), 1, 0.25, 0.7, 0.9, 0.15, 0.4
    p, grad, m, v = torch.randn(4, 3, 4, generator=rng)
    yield p, grad, m, v.square(), 3, 0.3, 0.6, 0.85, 0.12, 0.0  # no decay


def _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay, correct=(True, True), shift=0, update=None, shrink=None):
    """Right, unless something is changed: which of m and v are corrected, the step's number, the direction, and the
    decay."""
    new_m = beta1 * m + (1 - beta1) * grad
    new_v = beta2 * v + (1 - beta2) * grad.square()
    m_hat = new_m / (1 - beta1 ** (step + shift)) if correct[0] else new_m
    v_hat = new_v / (1 - beta2 ** (step + shift)) if correct[1] else new_v
    direction = update(m_hat, v_hat) if update else m_hat / (v_hat.sqrt() + eps)
    shrunk = shrink(p) if shrink else p * (1 - lr * decay)
    return shrunk - lr * direction, new_m, new_v


@adamw_step.mistake(hint=1)
def no_bias_correction(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The bias correction is missing: divide m by 1 − beta1^step and v by 1 − beta2^step before they are used."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay, correct=(False, False))


@adamw_step.mistake(hint=1)
def only_m_corrected(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """Only m is corrected: v started at 0 as well, so divide it by 1 − beta2^step."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay, correct=(True, False))


@adamw_step.mistake(hint=1)
def only_v_corrected(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """Only v is corrected: m started at 0 as well, so divide it by 1 − beta1^step."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay, correct=(False, True))


@adamw_step.mistake(hint=2)
def step_counted_from_0(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The correction uses step + 1: `step` is 1 at the first update already."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay, shift=1)


@adamw_step.mistake(hint=2)
def correction_times_the_step(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The correction multiplies beta by the step: it is beta to the power of the step, `beta1 ** step`."""
    new_m, new_v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad.square()
    m_hat, v_hat = new_m / (1 - beta1 * step), new_v / (1 - beta2 * step)
    return p * (1 - lr * decay) - lr * m_hat / (v_hat.sqrt() + eps), new_m, new_v


@adamw_step.mistake(hint=2)
def correction_without_the_step(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The correction divides by 1 − beta at every step: it is 1 − beta^step, which comes near 1."""
    return _adamw(p, grad, m, v, 1, lr, beta1, beta2, eps, decay)


@adamw_step.mistake(hint=2)
def correction_returned(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The corrected averages are returned: the next step needs m and v without the correction."""
    p, m, v = _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay)
    return p, m / (1 - beta1**step), v / (1 - beta2**step)


@adamw_step.mistake(hint=1)
def decay_in_the_gradient(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The decay is added to the gradient, so that v scales it as well: that is Adam with L2 regularization. The W of
    AdamW is that p shrinks by itself, by lr · decay · p."""
    return _adamw(p, grad + decay * p, m, v, step, lr, beta1, beta2, eps, 0.0)


@adamw_step.mistake(hint=1)
def no_decay(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The decay is missing: p also shrinks by lr · decay · p."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, 0.0)


@adamw_step.mistake(hint=2)
def decay_without_the_rate(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The decay is not multiplied by the learning rate: p shrinks by lr · decay · p."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay, shrink=lambda p: p * (1 - decay))


@adamw_step.mistake(hint=2)
def decay_grows(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The decay makes p grow: its sign is minus, like that of the update."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay, shrink=lambda p: p * (1 + lr * decay))


@adamw_step.mistake(hint=2)
def decay_after_the_update(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The decay shrinks the p that has been updated: take the p from before the step."""
    new_p, new_m, new_v = _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, 0.0)
    return new_p * (1 - lr * decay), new_m, new_v


@adamw_step.mistake(hint=2)
def eps_inside_the_root(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The eps is inside the root: add it to the root of the corrected v."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay, update=lambda m, v: m / (v + eps).sqrt())


@adamw_step.mistake(hint=2)
def eps_before_the_correction(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The eps is added before v is corrected: correct v first, take its root, and then add eps."""
    new_m, new_v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad.square()
    size = (1 - beta2**step) ** 0.5 / (1 - beta1**step)
    return p * (1 - lr * decay) - lr * size * new_m / (new_v.sqrt() + eps), new_m, new_v


@adamw_step.mistake(hint=2)
def no_eps(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The eps is missing in the denominator."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay, update=lambda m, v: m / v.sqrt())


@adamw_step.mistake(hint=2)
def no_root(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The root of v is missing: m has the unit of the gradient, v that of its square."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay, update=lambda m, v: m / (v + eps))


@adamw_step.mistake(hint=1)
def v_of_the_gradient(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The average v is made of the gradient: it averages the gradient's square."""
    new_m, new_v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad
    m_hat, v_hat = new_m / (1 - beta1**step), new_v / (1 - beta2**step)
    return p * (1 - lr * decay) - lr * m_hat / (v_hat.clamp(min=0).sqrt() + eps), new_m, new_v


@adamw_step.mistake(hint=1)
def v_of_m(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The average v is made of the square of m: it averages the square of the gradient."""
    new_m = beta1 * m + (1 - beta1) * grad
    new_v = beta2 * v + (1 - beta2) * new_m.square()
    m_hat, v_hat = new_m / (1 - beta1**step), new_v / (1 - beta2**step)
    return p * (1 - lr * decay) - lr * m_hat / (v_hat.sqrt() + eps), new_m, new_v


@adamw_step.mistake(hint=1)
def v_of_the_whole_tensor(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The average v takes the mean square of the whole tensor: every number has its own."""
    new_m = beta1 * m + (1 - beta1) * grad
    new_v = beta2 * v + (1 - beta2) * grad.square().mean()
    m_hat, v_hat = new_m / (1 - beta1**step), new_v / (1 - beta2**step)
    return p * (1 - lr * decay) - lr * m_hat / (v_hat.sqrt() + eps), new_m, new_v


@adamw_step.mistake(hint=2)
def betas_exchanged(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The betas are exchanged: beta1 belongs to m, beta2 to v."""
    return _adamw(p, grad, m, v, step, lr, beta2, beta1, eps, decay)


@adamw_step.mistake(hint=2)
def one_beta_for_both(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """Both averages use beta1: that of v is beta2."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta1, eps, decay)


@adamw_step.mistake(hint=2)
def old_and_new_exchanged(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """Old and new are weighted the wrong way around: beta goes to the old average, 1 − beta to the new gradient."""
    new_m, new_v = (1 - beta1) * m + beta1 * grad, (1 - beta2) * v + beta2 * grad.square()
    m_hat, v_hat = new_m / (1 - beta1**step), new_v / (1 - beta2**step)
    return p * (1 - lr * decay) - lr * m_hat / (v_hat.sqrt() + eps), new_m, new_v


@adamw_step.mistake(hint=2)
def sums_in_place_of_averages(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The gradient is not multiplied by 1 − beta: m and v then are sums, not averages."""
    new_m, new_v = beta1 * m + grad, beta2 * v + grad.square()
    m_hat, v_hat = new_m / (1 - beta1**step), new_v / (1 - beta2**step)
    return p * (1 - lr * decay) - lr * m_hat / (v_hat.sqrt() + eps), new_m, new_v


@adamw_step.mistake(hint=3)
def old_averages_used(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The update uses m and v from before this step: average the gradient in first."""
    m_hat, v_hat = m / (1 - beta1**step), v / (1 - beta2**step)
    new_m, new_v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad.square()
    return p * (1 - lr * decay) - lr * m_hat / (v_hat.sqrt() + eps), new_m, new_v


@adamw_step.mistake(hint=3)
def old_averages_returned(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The old m and v are returned: return the new ones, which the next step continues from."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay)[0], m.clone(), v.clone()


@adamw_step.mistake(hint=3)
def gradient_in_place_of_m(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The update uses this step's gradient: it uses the average m."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay, update=lambda _, v: grad / (v.sqrt() + eps))


@adamw_step.mistake(hint=3)
def uphill(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The update is added: the loss falls against the gradient, so subtract it."""
    return _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay, update=lambda m, v: -m / (v.sqrt() + eps))


@adamw_step.mistake(hint=3)
def update_returned(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    """The first result is the change of p: return p with the change."""
    new_p, new_m, new_v = _adamw(p, grad, m, v, step, lr, beta1, beta2, eps, decay)
    return p - new_p, new_m, new_v


def _slip(name, hint, sentence, new_m=None, new_v=None, m_hat=None, v_hat=None, new_p=None, returned=None):
    """A mistake in one line of an update that is right otherwise. Each line is a function of the values by name."""

    def mistake(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
        x = SimpleNamespace(p=p, g=grad, m=m, v=v, step=step, lr=lr, b1=beta1, b2=beta2, eps=eps, decay=decay)
        x.new_m = new_m(x) if new_m else x.b1 * x.m + (1 - x.b1) * x.g
        x.new_v = new_v(x) if new_v else x.b2 * x.v + (1 - x.b2) * x.g**2
        x.m_hat = m_hat(x) if m_hat else x.new_m / (1 - x.b1**x.step)
        x.v_hat = v_hat(x) if v_hat else x.new_v / (1 - x.b2**x.step)
        x.new_p = new_p(x) if new_p else x.p - x.lr * x.decay * x.p - x.lr * x.m_hat / (x.v_hat.sqrt() + x.eps)
        return returned(x) if returned else (x.new_p, x.new_m, x.new_v)

    mistake.__name__, mistake.__doc__ = name, sentence
    adamw_step.mistake(hint=hint)(mistake)


_slip(
    "betas_of_the_averages_exchanged",
    2,
    "The betas of the averages are exchanged, those of the corrections are right: beta1 belongs to m, beta2 to v.",
    new_m=lambda x: x.b2 * x.m + (1 - x.b2) * x.g,
    new_v=lambda x: x.b1 * x.v + (1 - x.b1) * x.g**2,
)
_slip(
    "betas_of_the_corrections_exchanged",
    2,
    "The betas of the corrections are exchanged: m is divided by 1 − beta1^step, v by 1 − beta2^step.",
    m_hat=lambda x: x.new_m / (1 - x.b2**x.step),
    v_hat=lambda x: x.new_v / (1 - x.b1**x.step),
)
_slip(
    "v_averaged_with_beta1",
    2,
    "The average v uses beta1: its own is beta2.",
    new_v=lambda x: x.b1 * x.v + (1 - x.b1) * x.g**2,
)
_slip(
    "m_averaged_with_beta2",
    2,
    "The average m uses beta2: its own is beta1.",
    new_m=lambda x: x.b2 * x.m + (1 - x.b2) * x.g,
)
_slip(
    "v_corrected_with_beta1",
    2,
    "The correction of v uses beta1: divide v by 1 − beta2^step.",
    v_hat=lambda x: x.new_v / (1 - x.b1**x.step),
)
_slip(
    "m_corrected_with_beta2",
    2,
    "The correction of m uses beta2: divide m by 1 − beta1^step.",
    m_hat=lambda x: x.new_m / (1 - x.b2**x.step),
)
_slip(
    "m_of_two_betas",
    2,
    "In the average m, the gradient is multiplied by 1 − beta2: the two weights of m are beta1 and 1 − beta1.",
    new_m=lambda x: x.b1 * x.m + (1 - x.b2) * x.g,
)
_slip(
    "v_of_two_betas",
    2,
    "In the average v, the square is multiplied by 1 − beta1: the two weights of v are beta2 and 1 − beta2.",
    new_v=lambda x: x.b2 * x.v + (1 - x.b1) * x.g**2,
)
_slip(
    "m_is_a_sum",
    2,
    "In m the gradient is not multiplied by 1 − beta1: m then is a sum, not an average.",
    new_m=lambda x: x.b1 * x.m + x.g,
)
_slip(
    "v_is_a_sum",
    2,
    "In v the squared gradient is not multiplied by 1 − beta2: v then is a sum, not an average.",
    new_v=lambda x: x.b2 * x.v + x.g**2,
)
_slip(
    "weights_of_m_exchanged",
    2,
    "In m old and new are weighted the wrong way around: beta1 goes to the old m, 1 − beta1 to the gradient.",
    new_m=lambda x: (1 - x.b1) * x.m + x.b1 * x.g,
)
_slip(
    "weights_of_v_exchanged",
    2,
    "In v old and new are weighted the wrong way around: beta2 goes to the old v, 1 − beta2 to the squared gradient.",
    new_v=lambda x: (1 - x.b2) * x.v + x.b2 * x.g**2,
)
_slip(
    "factor_squared_too",
    2,
    "In v the factor 1 − beta2 is squared with the gradient: square the gradient alone.",
    new_v=lambda x: x.b2 * x.v + ((1 - x.b2) * x.g) ** 2,
)
_slip(
    "v_of_the_signed_gradient",
    1,
    "The average v is made of the gradient, which may be negative, and has no root then: it averages the square.",
    new_v=lambda x: x.b2 * x.v + (1 - x.b2) * x.g,
)
_slip(
    "v_of_the_size",
    1,
    "The average v is made of the gradient's absolute value: it averages the gradient's square.",
    new_v=lambda x: x.b2 * x.v + (1 - x.b2) * x.g.abs(),
)
_slip(
    "v_of_the_sum_of_squares",
    1,
    "The average v takes the sum of all squares of the tensor: every number has its own.",
    new_v=lambda x: x.b2 * x.v + (1 - x.b2) * x.g.square().sum(),
)
_slip(
    "v_of_the_last_axis",
    1,
    "The average v takes the sum of squares along the last axis: every number has its own.",
    new_v=lambda x: x.b2 * x.v + (1 - x.b2) * x.g.square().sum(-1, keepdim=True),
)
_slip(
    "v_of_the_mean_of_the_last_axis",
    1,
    "The average v takes the mean square along the last axis: every number has its own.",
    new_v=lambda x: x.b2 * x.v + (1 - x.b2) * x.g.square().mean(-1, keepdim=True),
)
_slip(
    "m_without_the_gradient",
    1,
    "The average m does not take in the gradient: add (1 − beta1) · grad.",
    new_m=lambda x: x.b1 * x.m,
)
_slip(
    "v_without_the_gradient",
    1,
    "The average v does not take in the gradient: add (1 − beta2) · its square.",
    new_v=lambda x: x.b2 * x.v,
)
_slip(
    "old_m_used",
    3,
    "The update uses the m from before this step: average the gradient in first.",
    m_hat=lambda x: x.m / (1 - x.b1**x.step),
)
_slip(
    "old_v_used",
    3,
    "The update uses the v from before this step: average the squared gradient in first.",
    v_hat=lambda x: x.v / (1 - x.b2**x.step),
)
_slip(
    "corrected_m_returned",
    2,
    "The corrected m is returned: the next step needs m without the correction.",
    returned=lambda x: (x.new_p, x.m_hat, x.new_v),
)
_slip(
    "corrected_v_returned",
    2,
    "The corrected v is returned: the next step needs v without the correction.",
    returned=lambda x: (x.new_p, x.new_m, x.v_hat),
)
_slip("v_before_m", 3, "The averages are exchanged: return (p, m, v).", returned=lambda x: (x.new_p, x.new_v, x.new_m))
_slip("p_at_the_end", 3, "The new p comes last: return (p, m, v).", returned=lambda x: (x.new_m, x.new_v, x.new_p))
_slip(
    "gradient_returned_as_m",
    3,
    "The second result is the gradient: return the new m.",
    returned=lambda x: (x.new_p, x.g.clone(), x.new_v),
)
_slip(
    "old_p_returned",
    3,
    "The first result is p as it was: return the new p.",
    returned=lambda x: (x.p.clone(), x.new_m, x.new_v),
)
_slip(
    "change_returned",
    3,
    "The first result is the change, without p itself: return p with the change.",
    returned=lambda x: (x.new_p - x.p, x.new_m, x.new_v),
)
_slip(
    "corrected_first",
    3,
    "Both averages are corrected before they take in the gradient: average first, and correct under new names then.",
    new_m=lambda x: x.b1 * x.m / (1 - x.b1**x.step) + (1 - x.b1) * x.g,
    new_v=lambda x: x.b2 * x.v / (1 - x.b2**x.step) + (1 - x.b2) * x.g**2,
    m_hat=lambda x: x.new_m,
    v_hat=lambda x: x.new_v,
)
_slip(
    "step_less_one",
    2,
    "The correction uses step − 1, which makes the first one a division by 0: `step` is 1 at the first update.",
    m_hat=lambda x: x.new_m / (1 - x.b1 ** (x.step - 1)),
    v_hat=lambda x: x.new_v / (1 - x.b2 ** (x.step - 1)),
)
_slip(
    "correction_multiplied",
    2,
    "Both averages are multiplied by their corrections: divide by 1 − beta^step.",
    m_hat=lambda x: x.new_m * (1 - x.b1**x.step),
    v_hat=lambda x: x.new_v * (1 - x.b2**x.step),
)
_slip(
    "correction_of_m_multiplied",
    2,
    "The average m is multiplied by its correction: divide by 1 − beta1^step.",
    m_hat=lambda x: x.new_m * (1 - x.b1**x.step),
)
_slip(
    "correction_of_v_multiplied",
    2,
    "The average v is multiplied by its correction: divide by 1 − beta2^step.",
    v_hat=lambda x: x.new_v * (1 - x.b2**x.step),
)
_slip(
    "corrections_step_in_the_base",
    2,
    "The correction is (1 − beta) to the power of the step: it is 1 − beta^step, so the power goes with beta alone.",
    m_hat=lambda x: x.new_m / (1 - x.b1) ** x.step,
    v_hat=lambda x: x.new_v / (1 - x.b2) ** x.step,
)
_slip(
    "corrected_at_the_first_step_alone",
    2,
    "Only the first step is corrected: the correction belongs to every step, and comes near 1 by itself.",
    m_hat=lambda x: x.new_m / (1 - x.b1) if x.step == 1 else x.new_m,
    v_hat=lambda x: x.new_v / (1 - x.b2) if x.step == 1 else x.new_v,
)
_slip(
    "root_before_the_correction",
    2,
    "The root of v is divided by 1 − beta2^step: correct v first, and take the root then.",
    new_p=lambda x: x.p * (1 - x.lr * x.decay) - x.lr * x.m_hat / (x.new_v.sqrt() / (1 - x.b2**x.step) + x.eps),
)
_slip(
    "later_step_for_v",
    2,
    "The correction of v uses step + 1: `step` is 1 at the first update already.",
    v_hat=lambda x: x.new_v / (1 - x.b2 ** (x.step + 1)),
)
_slip(
    "later_step_for_m",
    2,
    "The correction of m uses step + 1: `step` is 1 at the first update already.",
    m_hat=lambda x: x.new_m / (1 - x.b1 ** (x.step + 1)),
)
_slip(
    "eps_after_the_division",
    2,
    "The eps is added after the division: put parentheses around the root plus eps.",
    new_p=lambda x: x.p - x.lr * x.decay * x.p - x.lr * (x.m_hat / x.v_hat.sqrt() + x.eps),
)
_slip(
    "eps_after_everything",
    2,
    "The eps is added to p at the end: put parentheses around the root plus eps.",
    new_p=lambda x: x.p - x.lr * x.decay * x.p - x.lr * x.m_hat / x.v_hat.sqrt() + x.eps,
)
_slip(
    "eps_twice",
    2,
    "The eps is added twice, inside the root and outside: add it to the root alone.",
    v_hat=lambda x: x.new_v / (1 - x.b2**x.step) + x.eps,
)
_slip(
    "eps_as_the_smallest",
    2,
    "The root is replaced by eps where it is smaller: add eps to the root.",
    new_p=lambda x: x.p - x.lr * x.decay * x.p - x.lr * x.m_hat / x.v_hat.sqrt().clamp(min=x.eps),
)
_slip(
    "multiplied_by_the_root",
    2,
    "The corrected m is multiplied by the root plus eps: divide by it.",
    new_p=lambda x: x.p - x.lr * x.decay * x.p - x.lr * x.m_hat * (x.v_hat.sqrt() + x.eps),
)
_slip(
    "sign_of_m",
    1,
    "The update is the sign of m alone: it is corrected m, divided by the root of corrected v plus eps.",
    new_p=lambda x: x.p - x.lr * x.decay * x.p - x.lr * x.m_hat.sign(),
)
_slip(
    "rate_forgotten",
    2,
    "The update is not multiplied by lr, only the decay is: both are.",
    new_p=lambda x: x.p - x.lr * x.decay * x.p - x.m_hat / (x.v_hat.sqrt() + x.eps),
)
_slip(
    "rate_forgotten_twice",
    2,
    "Neither update nor decay is multiplied by lr: both are.",
    new_p=lambda x: x.p - x.decay * x.p - x.m_hat / (x.v_hat.sqrt() + x.eps),
)
_slip(
    "decay_divided_by_the_root",
    2,
    "The decay is added to corrected m and divided by the root with it: p shrinks by itself, by lr · decay · p.",
    new_p=lambda x: x.p - x.lr * (x.m_hat + x.decay * x.p) / (x.v_hat.sqrt() + x.eps),
)
_slip(
    "decay_without_p",
    2,
    "The decay is not multiplied by p: p shrinks by lr · decay · p.",
    new_p=lambda x: x.p - x.lr * x.decay - x.lr * x.m_hat / (x.v_hat.sqrt() + x.eps),
)
_slip(
    "decay_twice",
    2,
    "The decay is subtracted twice: once is enough.",
    new_p=lambda x: x.p - 2 * x.lr * x.decay * x.p - x.lr * x.m_hat / (x.v_hat.sqrt() + x.eps),
)
_slip(
    "betas_of_the_chapter",
    2,
    "The betas are 0.9 and 0.95, whatever is passed: use beta1 and beta2.",
    new_m=lambda x: 0.9 * x.m + 0.1 * x.g,
    new_v=lambda x: 0.95 * x.v + 0.05 * x.g**2,
    m_hat=lambda x: x.new_m / (1 - 0.9**x.step),
    v_hat=lambda x: x.new_v / (1 - 0.95**x.step),
)
_slip(
    "decay_of_the_chapter",
    2,
    "The decay is 0.1, whatever is passed: use `decay`.",
    new_p=lambda x: x.p - x.lr * 0.1 * x.p - x.lr * x.m_hat / (x.v_hat.sqrt() + x.eps),
)


@adamw_step.finished
def two_averages(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad.square()
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    p = p - lr * decay * p - lr * m_hat / (v_hat.sqrt() + eps)
    return p, m, v


@adamw_step.accepted
def by_lerp(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    m, v = m.lerp(grad, 1 - beta1), v.lerp(grad**2, 1 - beta2)
    root = (v / (1 - beta2**step)) ** 0.5
    return p * (1 - lr * decay) - lr / (1 - beta1**step) * m / (root + eps), m, v


@adamw_step.accepted
def in_place_on_copies(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
    p, m, v = p.detach().clone(), m.detach().clone(), v.detach().clone()
    m.mul_(beta1).add_(grad, alpha=1 - beta1)
    v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    p.mul_(1 - lr * decay)
    bottom = (v.sqrt() / (1 - beta2**step) ** 0.5).add_(eps)
    p.addcdiv_(m, bottom, value=-lr / (1 - beta1**step))
    return p, m, v
