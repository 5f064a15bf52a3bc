"""Loss → gradients → clipped norm → optimizer. The one place where parameters change."""

from collections.abc import Iterable

import torch as th


def gradient_step(
    losses: Iterable[th.Tensor],
    parameters: list[th.nn.Parameter],
    optimizer: th.optim.Optimizer,
    max_grad_norm: float | None,
) -> th.Tensor:
    """
    One step down the gradient of the sum of ``losses``.

    :param losses: scalars; from a generator, each one's graph is gone before the next one's is built, so that the parts of
        a large batch need the memory of one part
    :param parameters: what the norm is taken of
    :param optimizer: its gradients are zeroed first
    :param max_grad_norm: the gradient is scaled down to this L2 norm if it is longer; ``None``: never
    :return: the norm before clipping, a scalar
    """
    optimizer.zero_grad()
    for loss in losses:
        loss.backward()
    if max_grad_norm is None:
        norm = th.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    else:
        norm = th.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()
    return norm
