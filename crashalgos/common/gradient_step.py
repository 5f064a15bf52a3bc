"""
The gradient step: the one place where parameters change.

:class:`GradientStep` is the eager step that everybody knows. :class:`CompiledGradientStep` is the same mathematics as a graph.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from crashalgos.common.compiler import Compiler, Figures, Session
from crashalgos.common.distributions import forget_distribution, without_validation
from crashalgos.common.fused_adam import AdamGroup, adam_groups, adam_step, has_default_arithmetic, is_plain_adam
from crashalgos.common.minibatch_log import MinibatchLog

#: ``foreach`` changes the last bits of some others
_SAME_BITS_WITH_FOREACH = (th.optim.Adam, th.optim.AdamW, th.optim.SGD, th.optim.RMSprop)

#: ``loss(batch, **coefficients)`` → the loss, a scalar, and figures to log. It changes nothing
Loss = Callable[..., tuple[th.Tensor, Figures]]


class GradientStep:
    """
    Makes the gradient steps of one update down one loss.

    :param loss: the loss, a method of the algorithm
    :param coefficients: the loss's keyword arguments
    :param parameters: the parameters whose gradient, and norm of the gradient, is taken
    :param optimizer: the optimizer of these parameters
    :param log: gets the figures of every minibatch, and for every step ``grad_norm``, the norm before clipping
    :param max_grad_norm: upper bound of the gradient's L2 norm; ``None``: no bound
    :param should_step: gets the minibatch's figures; returning False skips the optimizer step (``target_kl``)
    """

    def __init__(
        self,
        loss: Loss,
        coefficients: Mapping[str, Any],
        parameters: list[nn.Parameter],
        optimizer: th.optim.Optimizer,
        log: MinibatchLog,
        max_grad_norm: float | None = None,
        should_step: Callable[[Figures], bool] | None = None,
    ) -> None:
        self._loss = loss
        self._coefficients = coefficients
        self._parameters = parameters
        self._optimizer = optimizer
        self._log = log
        self._max_grad_norm = max_grad_norm
        self._should_step = should_step

    def __call__(self, batch: Any) -> bool:
        """
        One gradient step from one minibatch.

        :param batch: a minibatch
        :return: whether the step was made
        """
        return self.accumulate([batch])

    def accumulate(self, micro_batches: Iterable[Any]) -> bool:
        """
        One gradient step down the sum of the micro-batches' losses.

        :param micro_batches: parts of one batch. From a generator, only one part and its graph are in memory at a time
        :return: whether the step was made
        """
        self._optimizer.zero_grad()
        for batch in micro_batches:
            loss, figures = self._loss_of(batch)
            self._log.add(**figures)
            if self._should_step is not None and not self._should_step(figures):
                return False
            loss.backward()
        self._log.add(grad_norm=self._clip_gradients())
        self._optimizer.step()
        return True

    def _loss_of(self, batch: Any) -> tuple[th.Tensor, Figures]:
        loss, figures = self._loss(batch, **self._coefficients)
        return loss, {name: figure.detach() for name, figure in figures.items()}

    def _clip_gradients(self) -> th.Tensor:
        if self._max_grad_norm is None:
            return nn.utils.get_total_norm([parameter.grad for parameter in self._parameters if parameter.grad is not None])
        return nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm)


class CompiledGradientStep(GradientStep):
    """
    Makes the same steps from compiled graphs. What cannot be compiled runs eagerly.

    Usually loss, gradient, clipping and Adam are one graph. Otherwise loss and gradient are a graph, and the optimizer steps
    eagerly. That is so with an optimizer other than plain Adam or AdamW, with several micro-batches, and with ``should_step``.

    :param args: arguments of :class:`GradientStep`
    :param policy: the policy that the loss reads
    :param compiler: the model's compiler
    :param static_size: minibatches of this size get a graph of their own; ``None``: sizes vary
    :param single_batch: whether every step has one minibatch
    :param kwargs: arguments of :class:`GradientStep`
    """

    def __init__(
        self,
        *args: Any,
        policy: ActorCriticPolicy,
        compiler: Compiler,
        static_size: int | None = None,
        single_batch: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._policy = policy
        self._compiler = compiler
        self._static_size = static_size
        self._fuses = single_batch and self._should_step is None and is_plain_adam(self._optimizer, self._parameters)
        self._fused: Session | None = None
        self._learning = [parameter for parameter in self._parameters if parameter.requires_grad]
        self._gradients = self._session(_gradients, self._learning)

    def accumulate(self, micro_batches: Iterable[Any]) -> bool:
        """
        One gradient step, as one graph where that is possible.

        :param micro_batches: parts of one batch
        :return: whether the step was made
        """
        if self._fuses:
            (batch,) = micro_batches
            if (figures := self._fused_adam_step(batch)) is not None:
                self._log.add(**figures)
                return True
            micro_batches = [batch]
        return super().accumulate(micro_batches)

    def _fused_adam_step(self, batch: Any) -> Figures | None:
        if self._fused is None:
            if not all(parameter in self._optimizer.state for parameter in self._parameters):
                # An optimizer makes its state in its first step, but not for parameters that the loss does not depend on
                self._fuses = not self._optimizer.state
                return None
            self._optimizer.zero_grad()
            groups = adam_groups(self._optimizer)
            bound = None if self._max_grad_norm is None else th.tensor(self._max_grad_norm, device=self._parameters[0].device)
            self._fused = self._session(_fused_adam_step, self._parameters, groups, bound)
        return self._fused(batch)

    def _loss_of(self, batch: Any) -> tuple[Any, Figures]:
        figures = None if self._fuses else self._gradients(batch)
        if figures is None:
            return super()._loss_of(batch)
        gradients = [figures.pop(f"gradient {index}") for index in range(len(self._learning))]
        return _KnownGradient(self._learning, gradients), figures

    def _session(self, function: Callable[..., Figures], *constants: Any) -> Session:
        coefficients = _as_tensors(self._coefficients, self._parameters[0].device) if self._compiler.enabled else {}
        name = f"the update of {type(self._loss.__self__).__name__} ({self._loss.__name__})"  # type: ignore[attr-defined]
        constants = (self._loss, coefficients, *constants)
        return self._compiler.session(function, self._policy, *constants, name=name, static_size=self._static_size)


class _KnownGradient:
    """A loss whose gradient a graph has calculated already."""

    def __init__(self, parameters: list[nn.Parameter], gradients: list[th.Tensor]) -> None:
        self._parameters = parameters
        self._gradients = gradients

    def backward(self) -> None:
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)


@contextmanager
def gradient_steps(
    loss: Loss,
    coefficients: Mapping[str, Any],
    *,
    policy: ActorCriticPolicy,
    parameters: list[nn.Parameter],
    optimizer: th.optim.Optimizer,
    log: MinibatchLog,
    compiler: Compiler,
    max_grad_norm: float | None = None,
    should_step: Callable[[Figures], bool] | None = None,
    static_size: int | None = None,
    single_batch: bool = True,
) -> Iterator[GradientStep]:
    """
    Gives the gradient step of an update: eager, or compiled if the model compiles.

    In the block, distributions are not validated: one check at the end of the update, whether all is finite, replaces that.

    :param loss: the loss, a method of the algorithm
    :param coefficients: the loss's keyword arguments
    :param policy: the policy that the loss reads
    :param parameters: the parameters whose gradient is taken
    :param optimizer: the optimizer of these parameters
    :param log: gets the figures of every minibatch and ``grad_norm`` of every step
    :param compiler: the model's compiler
    :param max_grad_norm: see :class:`GradientStep`
    :param should_step: see :class:`GradientStep`
    :param static_size: see :class:`CompiledGradientStep`
    :param single_batch: see :class:`CompiledGradientStep`
    :return: a context manager that gives the step
    """
    arguments = (loss, coefficients, parameters, optimizer, log, max_grad_norm, should_step)
    if compiler.enabled:
        step: GradientStep = CompiledGradientStep(
            *arguments, policy=policy, compiler=compiler, static_size=static_size, single_batch=single_batch
        )
    else:
        step = GradientStep(*arguments)
    with without_validation(), _foreach(optimizer):
        yield step


# The functions below are compiled. They stand in a module, so that models whose policies are alike share their graphs.


def _fused_adam_step(
    policy: ActorCriticPolicy,
    loss: Loss,
    coefficients: dict[str, th.Tensor | None],
    parameters: list[nn.Parameter],
    groups: list[AdamGroup],
    max_grad_norm: th.Tensor | None,
    batch: Any,
) -> Figures:
    """Loss, gradient, clipping and Adam of one minibatch."""
    figures, gradients = _loss_and_gradients(policy, loss, coefficients, parameters, batch)
    norm = th.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    if max_grad_norm is not None:
        scale = th.clamp(max_grad_norm / (norm + 1e-6), max=1.0)  # as `clip_grad_norm_`
        gradients = [gradient * scale for gradient in gradients]
    with th.no_grad():
        adam_step(groups, gradients)
    return figures | {"grad_norm": norm}


def _gradients(
    policy: ActorCriticPolicy,
    loss: Loss,
    coefficients: dict[str, th.Tensor | None],
    parameters: list[nn.Parameter],
    batch: Any,
) -> Figures:
    """Loss and gradient of one minibatch."""
    figures, gradients = _loss_and_gradients(policy, loss, coefficients, parameters, batch)
    return figures | {f"gradient {index}": gradient for index, gradient in enumerate(gradients)}


def _loss_and_gradients(
    policy: ActorCriticPolicy,
    loss: Loss,
    coefficients: dict[str, th.Tensor | None],
    parameters: list[nn.Parameter],
    batch: Any,
) -> tuple[Figures, list[th.Tensor]]:
    value, figures = loss(batch, **coefficients)
    gradients = th.autograd.grad(value, parameters)
    forget_distribution(policy)
    return {name: figure.detach() for name, figure in figures.items()}, list(gradients)


def _as_tensors(coefficients: Mapping[str, Any], device: th.device) -> dict[str, th.Tensor | None]:
    """As Python numbers, every new value would make a new graph. In float64, which no sample's dtype gives way to."""
    return {
        name: None if value is None else th.tensor(value, dtype=th.float64, device=device)
        for name, value in coefficients.items()
    }


@contextmanager
def _foreach(optimizer: th.optim.Optimizer) -> Iterator[None]:
    """On a CPU ``foreach`` gives the same bits and saves a loop over the parameters; it is not to be saved with the model."""
    groups = [
        group for group in optimizer.param_groups if group.get("foreach", True) is None and has_default_arithmetic(group)
    ]
    if type(optimizer) not in _SAME_BITS_WITH_FOREACH:
        groups = []
    for group in groups:
        group["foreach"] = True
    try:
        yield
    finally:
        for group in groups:
            group["foreach"] = None
