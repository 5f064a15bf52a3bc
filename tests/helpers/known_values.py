"""Rollouts of one update, under a critic whose values are known."""

import torch as th

from crashalgos import REINFORCE

GAMMA = 0.5


def with_known_values(model):
    """Sets V(s) = 10 · t + 1 for the observation (env, episode, t)."""
    policy = model.policy
    with th.no_grad():
        for parameter in policy.mlp_extractor.value_net.parameters():
            parameter.zero_()
        policy.value_net.weight.copy_(th.tensor([[0.0, 0.0, 10.0]]))
        policy.value_net.bias.fill_(1.0)
    return model


def rollout(algorithm, env, n_trajectories, **kwargs):
    """Gives the buffer of one rollout, after an update that does not move θ."""
    model = algorithm(
        "MlpPolicy", env, learning_rate=0.0, n_trajectories=n_trajectories, gamma=GAMMA, device="cpu", seed=0,
        policy_kwargs=dict(net_arch=[]), **kwargs,
    )  # fmt: skip
    if algorithm is not REINFORCE:
        with_known_values(model)
    model.learn(1)
    return model.rollout_buffer
