"""REINFORCE written without a library: one env, one network, one loop. The reference of our REINFORCE's speed."""

import gymnasium as gym
import numpy as np
import torch as th
from torch import nn
from torch.distributions import Categorical

# How strongly the fixed policy prefers the push that keeps the pole up: episodes have about 200 steps.
_PREFERENCE = 2.2


class PlainLoop:
    """
    REINFORCE with reward-to-go weights and no baseline.

    :param env_id: an id of gymnasium, with flat observations and discrete actions
    :param n_trajectories: N
    :param learning_rate: Adam's learning rate
    :param gamma: discount factor
    :param seed: seed of env and network
    """

    def __init__(
        self, env_id: str, n_trajectories: int, learning_rate: float = 1e-2, gamma: float = 0.99, seed: int = 0
    ) -> None:
        th.manual_seed(seed)
        self.env = gym.make(env_id)
        self.env.reset(seed=seed)
        assert isinstance(self.env.observation_space, gym.spaces.Box) and isinstance(
            self.env.action_space, gym.spaces.Discrete
        )
        self.policy = nn.Sequential(
            nn.Linear(self.env.observation_space.shape[0], 64),
            nn.Tanh(),
            nn.Linear(64, 64),
            nn.Tanh(),
            nn.Linear(64, int(self.env.action_space.n)),
        )
        self.optimizer: th.optim.Optimizer = th.optim.Adam(self.policy.parameters(), lr=learning_rate)
        self.n_trajectories = n_trajectories
        self.gamma = gamma
        self.observations: list[np.ndarray] = []
        self.actions: list[int] = []
        self.returns: list[float] = []

    @th.no_grad()
    def collect(self) -> int:
        """
        Collects N episodes.

        :return: their number of steps together
        """
        self.observations, self.actions, self.returns = [], [], []
        for _ in range(self.n_trajectories):
            observation, _ = self.env.reset()
            rewards: list[float] = []
            done = False
            while not done:
                action = int(Categorical(logits=self.policy(th.from_numpy(observation))).sample())
                self.observations.append(observation)
                self.actions.append(action)
                observation, reward, terminated, truncated, _ = self.env.step(action)
                rewards.append(float(reward))
                done = terminated or truncated
            self.returns += discounted_returns(rewards, self.gamma)
        return len(self.actions)

    def train(self) -> None:
        """Makes one gradient step on −(1/N) Σ_j Σ_t ln π(a_t|s_t) · R_t."""
        distribution = Categorical(logits=self.policy(th.from_numpy(np.stack(self.observations))))
        log_probs = distribution.log_prob(th.tensor(self.actions))
        loss = -(log_probs * th.tensor(self.returns)).sum() / self.n_trajectories
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def discounted_returns(rewards: list[float], gamma: float) -> list[float]:
    """
    Calculates R_t = r_t + γ R_{t+1}.

    :param rewards: r_1, …, r_T
    :param gamma: discount factor
    :return: R_1, …, R_T
    """
    returns = []
    following = 0.0
    for reward in reversed(rewards):
        following = reward + gamma * following
        returns.append(following)
    return returns[::-1]


def set_fixed_weights(policy: nn.Module) -> None:
    """
    Gives a policy weights with which CartPole-v1 lasts about 200 steps.

    It prefers the side to which the pole leans or falls. One path through the network calculates that; all other weights
    are 0, which costs the same time.

    :param policy: its linear layers, in order, are the two hidden ones and that of the logits
    """
    first, second, logits = (layer for layer in policy.modules() if isinstance(layer, nn.Linear))
    with th.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        # The pole's angle and angular velocity
        first.weight[0, 2:4] = 1.0
        second.weight[0, 0] = 1.0
        logits.weight[:, 0] = th.tensor([-_PREFERENCE, _PREFERENCE])
