"""Loss → gradients → clipped norm → optimizer, eager or compiled. The one place where parameters change."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from crashalgos.common.compiler import Compiler, Figures, Session, mark_as_unmoved, without_validation
from crashalgos.common.minibatch_log import MinibatchLog

#: ``foreach`` changes the last bits of some others
_SAME_BITS_WITH_FOREACH = (th.optim.Adam, th.optim.AdamW, th.optim.SGD, th.optim.RMSprop)

#: ``loss(samples, **coefficients)`` → the loss, a scalar, and figures to log. It changes nothing
Loss = Callable[..., tuple[th.Tensor, Figures]]


class GradientStep(ExitStack):
    """
    The steps of one update down the gradient of one loss, to be used in a ``with`` statement.

    Eagerly a step is ``loss.backward()``, ``clip_grad_norm_`` and ``optimizer.step()``. Compiled, all of it is one graph where
    the optimizer is PyTorch's Adam or AdamW and a step has one part that needs no approval; elsewhere the loss and its
    gradients are one, and the optimizer steps eagerly.

    :param loss: what to go down: a method of the algorithm
    :param coefficients: its keyword arguments
    :param policy: the policy that it reads
    :param parameters: what the gradient, and its norm, are taken of
    :param optimizer: makes the step
    :param log: takes the figures of every part, and of every step ``grad_norm``, the norm before clipping
    :param compiler: the model's
    :param max_grad_norm: the gradient is scaled down to this L2 norm if it is longer; ``None``: never
    :param usual_size: the number of samples of nearly every part; ``None``: it is hardly twice the same
    :param one_part: whether every step has one part
    :param approve: is shown the figures of each part; where it says no, the step is not made
    """

    def __init__(
        self,
        loss: Loss,
        coefficients: Mapping[str, float | None],
        policy: ActorCriticPolicy,
        parameters: list[nn.Parameter],
        optimizer: th.optim.Optimizer,
        log: MinibatchLog,
        compiler: Compiler,
        max_grad_norm: float | None = None,
        usual_size: int | None = None,
        one_part: bool = True,
        approve: Callable[[Figures], bool] | None = None,
    ) -> None:
        super().__init__()
        self._loss = loss
        self._coefficients = coefficients
        self._policy = policy
        self._parameters = parameters
        self._optimizer = optimizer
        self._log = log
        self._compiler = compiler
        self._max_grad_norm = max_grad_norm
        self._usual_size = usual_size
        self._approve = approve
        self._fuses = compiler.enabled and one_part and approve is None and _is_adam(optimizer, parameters)
        self._whole: Session | None = None
        self._learning = [parameter for parameter in parameters if parameter.requires_grad]
        self._gradients = self._session(_gradients, self._learning)

    def __enter__(self) -> "GradientStep":
        super().__enter__()
        # Validation of every distribution is replaced by one question at the end of the update: is all finite?
        self.enter_context(without_validation())
        self.enter_context(_foreach(self._optimizer))
        return self

    def __call__(self, parts: Iterable[Any]) -> bool:
        """
        One step down the gradient of the sum of the parts' losses.

        :param parts: samples; from a generator, the graph of one is gone before the next one's is built, so that the parts of
            a large batch need the memory of one
        :return: whether the step was made
        """
        if self._fuses:
            parts = list(parts)
            if (figures := self._step_in_one_graph(parts[0])) is not None:
                self._log.add(**figures)
                return True
        self._optimizer.zero_grad()
        for part in parts:
            figures = self._add_gradients(part)
            self._log.add(**figures)
            if self._approve is not None and not self._approve(figures):
                return False
        self._log.add(grad_norm=self._clip_gradients())
        self._optimizer.step()
        return True

    def _step_in_one_graph(self, part: Any) -> Figures | None:
        if self._whole is None:
            if not all(parameter in self._optimizer.state for parameter in self._parameters):
                # An optimizer makes its state in its first step, but for parameters that the loss does not depend on
                self._fuses = not self._optimizer.state
                return None
            self._optimizer.zero_grad()
            groups = [_AdamGroup.of(group, self._optimizer) for group in self._optimizer.param_groups]
            bound = None if self._max_grad_norm is None else th.tensor(self._max_grad_norm, device=self._parameters[0].device)
            self._whole = self._session(_whole_step, self._parameters, groups, bound)
        return self._whole(part)

    def _add_gradients(self, part: Any) -> Figures:
        figures = None if self._fuses else self._gradients(part)
        if figures is None:
            loss, figures = self._loss(part, **self._coefficients)
            loss.backward()
            return {name: figure.detach() for name, figure in figures.items()}
        for index, parameter in enumerate(self._learning):
            gradient = figures.pop(f"gradient {index}")
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return figures

    def _session(self, function: Callable[..., Figures], *constants: Any) -> Session:
        coefficients = _as_tensors(self._coefficients, self._parameters[0].device) if self._compiler.enabled else {}
        name = f"the update of {type(self._loss.__self__).__name__} ({self._loss.__name__})"  # type: ignore[attr-defined]
        constants = (self._loss, coefficients, *constants)
        return self._compiler.session(function, self._policy, *constants, name=name, usual_size=self._usual_size)

    def _clip_gradients(self) -> th.Tensor:
        if self._max_grad_norm is None:
            return nn.utils.get_total_norm([parameter.grad for parameter in self._parameters if parameter.grad is not None])
        return nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm)


class _AdamGroup(NamedTuple):
    """A group of parameters of an optimizer that is Adam or AdamW, and its state."""

    parameters: list[nn.Parameter]
    states: list[dict[str, th.Tensor]]
    lr: th.Tensor
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decoupled: bool
    maximize: bool

    @classmethod
    def of(cls, group: dict[str, Any], optimizer: th.optim.Optimizer) -> "_AdamGroup":
        parameters = group["params"]
        states = [optimizer.state[parameter] for parameter in parameters]
        for parameter, state in zip(parameters, states, strict=True):
            # PyTorch keeps it on the CPU, where a CUDA graph cannot count
            state["step"] = state["step"].to(parameter.device)
            mark_as_unmoved([parameter, *state.values()])
        lr = th.tensor(group["lr"], dtype=th.float64, device=parameters[0].device)
        kept = (group[name] for name in ("betas", "eps", "weight_decay", "decoupled_weight_decay", "maximize"))
        return cls(parameters, states, lr, *kept)


def _adam(parameter: nn.Parameter, gradient: th.Tensor, state: dict[str, th.Tensor], group: _AdamGroup) -> None:
    """
    Adam (https://arxiv.org/abs/1412.6980, algorithm 1) and its variants as PyTorch has them, in place. PyTorch's own form for
    graphs, ``capturable=True``, divides by the learning rate, which may be 0.
    """
    beta1, beta2 = group.betas
    if group.maximize:
        gradient = -gradient
    if group.decoupled:
        parameter.mul_(1 - group.lr * group.weight_decay)
    elif group.weight_decay != 0:
        gradient = gradient + group.weight_decay * parameter
    t, m, v = state["step"], state["exp_avg"], state["exp_avg_sq"]
    t += 1
    m.lerp_(gradient, 1 - beta1)
    v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    if (v_max := state.get("max_exp_avg_sq")) is not None:
        th.maximum(v_max, v, out=v_max)
        v = v_max
    steps = t.double()
    m_hat = m / (1 - beta1**steps)
    v_hat_root = v.sqrt() / (1 - beta2**steps).sqrt()
    parameter.sub_(group.lr * m_hat / (v_hat_root + group.eps))


def _whole_step(
    policy: ActorCriticPolicy,
    loss: Loss,
    coefficients: dict[str, th.Tensor | None],
    parameters: list[nn.Parameter],
    groups: list[_AdamGroup],
    max_grad_norm: th.Tensor | None,
    part: Any,
) -> Figures:
    figures, gradients = _loss_and_gradients(policy, loss, coefficients, parameters, part)
    norm = th.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    if max_grad_norm is not None:
        scale = th.clamp(max_grad_norm / (norm + 1e-6), max=1.0)  # as `clip_grad_norm_`
        gradients = [gradient * scale for gradient in gradients]
    remaining = iter(gradients)
    with th.no_grad():
        for group in groups:
            for parameter, state in zip(group.parameters, group.states, strict=True):
                _adam(parameter, next(remaining), state, group)
    return figures | {"grad_norm": norm}


def _gradients(
    policy: ActorCriticPolicy,
    loss: Loss,
    coefficients: dict[str, th.Tensor | None],
    parameters: list[nn.Parameter],
    part: Any,
) -> Figures:
    figures, gradients = _loss_and_gradients(policy, loss, coefficients, parameters, part)
    return figures | {f"gradient {index}": gradient for index, gradient in enumerate(gradients)}


def _loss_and_gradients(
    policy: ActorCriticPolicy,
    loss: Loss,
    coefficients: dict[str, th.Tensor | None],
    parameters: list[nn.Parameter],
    part: Any,
) -> tuple[Figures, list[th.Tensor]]:
    value, figures = loss(part, **coefficients)
    gradients = th.autograd.grad(value, parameters)
    # SB3's policies keep their last distribution, and with it the graph's own tensors
    policy.action_dist.distribution = None  # type: ignore[assignment]
    return {name: figure.detach() for name, figure in figures.items()}, list(gradients)


def _as_tensors(coefficients: Mapping[str, float | None], device: th.device) -> dict[str, th.Tensor | None]:
    """As Python numbers, every new value would make a new graph. In float64, which no sample's dtype gives way to."""
    return {
        name: None if value is None else th.tensor(value, dtype=th.float64, device=device)
        for name, value in coefficients.items()
    }


def _is_adam(optimizer: th.optim.Optimizer, parameters: list[nn.Parameter]) -> bool:
    """Whether its step is the one of ``_whole_step``."""
    owned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return (
        type(optimizer) in (th.optim.Adam, th.optim.AdamW)
        and list(map(id, owned)) == list(map(id, parameters))
        and all(parameter.requires_grad for parameter in parameters)
        and all(_is_plain(group) for group in optimizer.param_groups)
        and not optimizer._optimizer_step_pre_hooks
        and not optimizer._optimizer_step_post_hooks
    )


def _is_plain(group: dict[str, Any]) -> bool:
    return not any(group.get(name) for name in ("foreach", "fused", "differentiable", "capturable"))


@contextmanager
def _foreach(optimizer: th.optim.Optimizer) -> Iterator[None]:
    """On a CPU ``foreach`` gives the same bits and saves a loop over the parameters; it is not to be saved with the model."""
    groups = [group for group in optimizer.param_groups if group.get("foreach", True) is None and _is_plain(group)]
    if type(optimizer) not in _SAME_BITS_WITH_FOREACH:
        groups = []
    for group in groups:
        group["foreach"] = True
    try:
        yield
    finally:
        for group in groups:
            group["foreach"] = None
