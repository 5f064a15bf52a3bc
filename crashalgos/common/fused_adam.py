"""Adam inside a compiled graph: PyTorch's own optimizers cannot be part of one on a CPU."""

from typing import Any, NamedTuple

import torch as th
from torch import nn

from crashalgos.common.compiler import mark_static_addresses


class AdamGroup(NamedTuple):
    """A parameter group of PyTorch's Adam or AdamW, with the optimizer's state of each parameter."""

    parameters: list[nn.Parameter]
    states: list[dict[str, th.Tensor]]
    lr: th.Tensor
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decoupled: bool
    maximize: bool

    @classmethod
    def of(cls, group: dict[str, Any], optimizer: th.optim.Optimizer) -> "AdamGroup":
        """
        Reads a parameter group. The state is shared with the optimizer, not copied.

        :param group: one of ``optimizer.param_groups``
        :param optimizer: has made a step, so that it has a state of each parameter
        :return: the group
        """
        parameters = group["params"]
        states = [optimizer.state[parameter] for parameter in parameters]
        for parameter, state in zip(parameters, states, strict=True):
            # PyTorch keeps it on the CPU, where a CUDA graph cannot count
            state["step"] = state["step"].to(parameter.device)
            mark_static_addresses([parameter, *state.values()])
        lr = th.tensor(group["lr"], dtype=th.float64, device=parameters[0].device)
        kept = (group[name] for name in ("betas", "eps", "weight_decay", "decoupled_weight_decay", "maximize"))
        return cls(parameters, states, lr, *kept)


def adam_groups(optimizer: th.optim.Optimizer) -> list[AdamGroup]:
    """
    Reads the parameter groups of an optimizer for :func:`adam_step`.

    :param optimizer: Adam or AdamW that has made a step
    :return: its groups, in its order
    """
    return [AdamGroup.of(group, optimizer) for group in optimizer.param_groups]


def adam_step(groups: list[AdamGroup], gradients: list[th.Tensor]) -> None:
    """
    One step of Adam or AdamW on all parameters, in place.

    :param groups: the optimizer's groups
    :param gradients: one for each parameter, in the order of the groups
    """
    remaining = iter(gradients)
    for group in groups:
        for parameter, state in zip(group.parameters, group.states, strict=True):
            _adam(parameter, next(remaining), state, group)


def _adam(parameter: nn.Parameter, gradient: th.Tensor, state: dict[str, th.Tensor], group: AdamGroup) -> None:
    """
    Adam (https://arxiv.org/abs/1412.6980, algorithm 1) with PyTorch's variants, for one parameter, in place.

    PyTorch's own form for graphs, ``capturable=True``, divides by the learning rate, which may be 0.
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


def is_plain_adam(optimizer: th.optim.Optimizer, parameters: list[nn.Parameter]) -> bool:
    """
    Whether :func:`adam_step` does what the optimizer's own step does.

    :param optimizer: any optimizer
    :param parameters: the parameters whose gradients are taken
    :return: True for Adam and AdamW that own exactly these parameters, all learning, without options of another arithmetic
        and without hooks
    """
    owned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return (
        type(optimizer) in (th.optim.Adam, th.optim.AdamW)
        and list(map(id, owned)) == list(map(id, parameters))
        and all(parameter.requires_grad for parameter in parameters)
        and all(has_default_arithmetic(group) for group in optimizer.param_groups)
        and not optimizer._optimizer_step_pre_hooks
        and not optimizer._optimizer_step_post_hooks
    )


def has_default_arithmetic(group: dict[str, Any]) -> bool:
    """
    Whether nobody has chosen one of PyTorch's other implementations for a parameter group.

    :param group: one of ``optimizer.param_groups``
    :return: True if ``foreach``, ``fused``, ``differentiable`` and ``capturable`` are unset or False
    """
    return not any(group.get(name) for name in ("foreach", "fused", "differentiable", "capturable"))
