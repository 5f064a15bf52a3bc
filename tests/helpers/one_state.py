"""An env with one state, where one update can be computed on paper."""

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces

from crashalgos import REINFORCE

SGD = dict(net_arch=[], optimizer_class=th.optim.SGD, optimizer_kwargs={})


class OneState(gym.Env):
    """One state, two actions, rewards 1, 2, 4. A policy is biases alone: π = softmax(bias)."""

    observation_space = spaces.Box(-1, 1, (1,), dtype=np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, dtype=np.float32), float(2 ** (self.t - 1)), self.t == 3, False, {}


def updated(algorithm, n_trajectories=1, *, bias=(0.0, 0.0), learning_rate=0.5, **kwargs):
    """Gives a model after one update, from given biases of its policy."""
    model = algorithm(
        "MlpPolicy",
        OneState(),
        learning_rate=learning_rate,
        n_trajectories=n_trajectories,
        gamma=1.0,
        policy_kwargs=SGD,
        seed=3,
        device="cpu",
        **kwargs,
    )
    with th.no_grad():
        model.policy.action_net.bias.copy_(th.tensor(bias))
        if algorithm is not REINFORCE:
            model.policy.value_net.bias.zero_()
    model.learn(1)
    return model


def moved(model, bias=(0.0, 0.0)) -> np.ndarray:
    """Gives by how much the policy's biases have changed."""
    return model.policy.action_net.bias.detach().numpy() - np.array(bias)


def policy_gradient(actions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """
    Computes Σ_t ∇ln π(a_t) · weight_t for π = (1/2, 1/2).

    ∇ln π(a) is 1/2 for a's own bias and −1/2 for the other's.
    """
    signs = np.where(actions.flatten() == 0, 1.0, -1.0)
    return float((signs * weights).sum()) / 2 * np.array([1.0, -1.0])
