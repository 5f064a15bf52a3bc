"""The compiled Adam takes the steps of PyTorch's."""

import pytest
import torch as th
from torch import nn

from crashalgos.common.fused_adam import AdamGroup, _adam


@pytest.mark.parametrize("kind", [th.optim.Adam, th.optim.AdamW])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        dict(weight_decay=0.1),
        dict(amsgrad=True),
        dict(maximize=True, betas=(0.5, 0.6)),
        dict(lr=0.0),
        dict(lr=-0.1, weight_decay=0.1),
    ],
    ids=str,
)
def test_adam_is_pytorchs(kind, settings):
    """Compares five steps in float64; the gradient of the first parameter is zero."""
    rng = th.Generator().manual_seed(0)
    ours, theirs = ([nn.Parameter(th.linspace(-1, 1, n, dtype=th.float64)) for n in (3, 4)] for _ in range(2))
    lr = settings.pop("lr", 0.1) if "lr" in (settings := dict(settings)) else 0.1
    optimizers = [kind(parameters, lr=abs(lr), **settings) for parameters in (ours, theirs)]
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = lr  # a schedule past its end makes it negative
    for step in range(5):
        gradients = [th.zeros(3, dtype=th.float64), th.randn(4, generator=rng, dtype=th.float64)]
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizers[1].step()
        if step == 0:  # PyTorch makes the state
            for parameter, gradient in zip(ours, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizers[0].step()
            continue
        group = AdamGroup.of(optimizers[0].param_groups[0], optimizers[0])
        with th.no_grad():
            for parameter, gradient, state in zip(ours, gradients, group.states, strict=True):
                _adam(parameter, gradient, state, group)
    for a, b in zip(ours, theirs, strict=True):
        th.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
