"""
The random state of a run: every random generator that training draws from.

``model`` is any SB3 model.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import StateDependentNoiseDistribution

#: gSDE draws its noise once for many steps: one matrix, and one matrix for each env
_NOISE = ("exploration_mat", "exploration_matrices")


def random_state(model: BaseAlgorithm) -> dict[str, Any]:
    """
    The states of the generators of Python, numpy and PyTorch, and the noise that gSDE has drawn.

    :return: copies of the states
    """
    distribution = getattr(model.policy, "action_dist", None)
    noise = {}
    if isinstance(distribution, StateDependentNoiseDistribution):
        noise = {name: getattr(distribution, name).detach().clone() for name in _NOISE if hasattr(distribution, name)}
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": th.get_rng_state(),
        "cuda": th.cuda.get_rng_state_all() if model.device.type == "cuda" else [],
        "noise": noise,
    }


def set_random_state(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    """
    Restores the random state.

    :param state: the result of :func:`random_state`
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    th.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        th.cuda.set_rng_state_all([generator.cpu() for generator in state["cuda"]])
    for name, noise in state["noise"].items():
        setattr(model.policy.action_dist, name, noise.to(model.device))


@contextmanager
def preserved_random_state(model: BaseAlgorithm) -> Iterator[None]:
    """
    Restores the random state and the policy's training mode after the block.

    In the block you can evaluate the policy, for example, without an effect on training.
    """
    state = random_state(model)
    modes = [(module, module.training) for module in model.policy.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        set_random_state(model, state)
