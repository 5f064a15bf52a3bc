"""Every random stream that a training draws from, as one value that can be kept and put back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import StateDependentNoiseDistribution

# gSDE's noise, drawn once for many steps: one matrix, and one for each env
_NOISE = ("exploration_mat", "exploration_matrices")


def random_state(model: BaseAlgorithm) -> dict[str, Any]:
    """
    :param model: an SB3 model
    :return: the states of Python's, numpy's and PyTorch's generators, and the noise that gSDE has drawn
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
    :param model: an SB3 model
    :param state: what ``random_state`` gave
    """
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    th.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        th.cuda.set_rng_state_all([generator.cpu() for generator in state["cuda"]])
    for name, noise in state["noise"].items():
        setattr(model.policy.action_dist, name, noise.to(model.device))


@contextmanager
def undisturbed(model: BaseAlgorithm) -> Iterator[None]:
    """
    The block may draw, and switch the policy's mode: afterwards the training goes on as if it had not.

    :param model: an SB3 model
    """
    state = random_state(model)
    modes = [(module, module.training) for module in model.policy.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        set_random_state(model, state)
