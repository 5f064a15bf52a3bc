"""A slow statistical test (``make statistics``): compiled learning reaches the same returns."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from crashalgos import PPO

SEEDS = range(10)
#: CartPole-v1 as RL Zoo tunes it, at a constant rate. Much shorter, and the returns of seeds differ by hundreds
SETTINGS = dict(n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98, n_epochs=20, learning_rate=1e-3, device="cpu")
N_TIMESTEPS = 30_000


def final_return(seed: int, compile: bool) -> float:
    model = PPO("MlpPolicy", make_vec_env("CartPole-v1", 8, seed=seed), seed=seed, compile=compile, **SETTINGS)  # type: ignore[arg-type]
    model.learn(N_TIMESTEPS)
    assert model._compiler.enabled is compile
    th.manual_seed(seed)
    return float(evaluate_policy(model, make_vec_env("CartPole-v1", 1, seed=1000 + seed), n_eval_episodes=20)[0])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_final_returns_do_not_differ():
    """The 95 % bootstrap interval of the difference of the means over 10 seeds contains 0."""
    returns = np.array([[final_return(seed, compile) for compile in (False, True)] for seed in SEEDS])
    rng = np.random.default_rng(0)
    resampled = returns[rng.integers(len(SEEDS), size=(20_000, len(SEEDS), 2)), [0, 1]].mean(axis=1)
    low, high = np.quantile(resampled[:, 1] - resampled[:, 0], [0.025, 0.975])
    print(f"\neager {returns[:, 0].tolist()}\ncompiled {returns[:, 1].tolist()}")
    print(f"means {returns.mean(axis=0).tolist()}, difference in [{low:.1f}, {high:.1f}] (95 %)")
    assert low <= 0 <= high
    assert returns.mean(axis=0).min() > 200  # both learn: a policy at random gets 22
