"""A run on a vector env of gymnasium equals one on SB3's DummyVecEnv, to the last bit."""

import contextlib
import warnings
from functools import partial
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecMonitor, VecNormalize

from crashalgos import PPO, REINFORCE, BaselinePG
from crashalgos.resume import CheckpointError, ResumeCallback
from crashalgos.vec_envs import GymnasiumVecEnv
from tests.helpers.algorithms import VARIANTS
from tests.helpers.kill import Kill, Killed
from tests.helpers.trace import differences, learned
from tests.helpers.training import LIMIT, N_ENVS, cartpole, dummy, train

MODES = list(AutoresetMode)


def of_gymnasium(kind: str, mode: AutoresetMode = AutoresetMode.NEXT_STEP, **more: Any) -> GymnasiumVecEnv:
    vector_kwargs = {"autoreset_mode": mode}
    return GymnasiumVecEnv(
        gym.make_vec(
            "CartPole-v1",
            num_envs=N_ENVS,
            vectorization_mode=kind,
            vector_kwargs=vector_kwargs,
            max_episode_steps=LIMIT,
            **more,
        )
    )


@pytest.mark.parametrize(
    ("variant", "kind", "mode"),
    [
        *((variant, kind, AutoresetMode.NEXT_STEP) for kind in ("sync", "async") for variant in VARIANTS),
        *(("baseline_pg", "sync", mode) for mode in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED)),
    ],
)
def test_a_run_is_one_on_dummy_vec_env_to_the_last_bit(variant, kind, mode):
    found = train(variant, VecMonitor(of_gymnasium(kind, mode)))
    expected = train(variant, VecMonitor(dummy()))
    assert differences(expected, found) == []
    assert max(length for _, length in expected["episodes"]) == LIMIT


@pytest.mark.parametrize("variant", ["ppo_steps", "baseline_pg"])
def test_with_vec_normalize_and_frames(variant):
    def around(env: VecEnv) -> VecEnv:
        return VecNormalize(VecFrameStack(VecMonitor(env), 2), gamma=0.9)

    found, expected = (train(variant, around(env)) for env in (of_gymnasium("sync"), dummy()))
    assert differences(expected, found) == []


@pytest.mark.parametrize("mode", MODES)
def test_monitors_inside(mode):
    """Gymnasium passes their statistics on in its own arrays."""
    expected = train("reinforce", DummyVecEnv([lambda: Monitor(cartpole())] * N_ENVS))
    assert differences(expected, train("reinforce", of_gymnasium("sync", mode, wrappers=[Monitor]))) == []


def test_evaluation():
    model = PPO("MlpPolicy", dummy(), n_steps=64, batch_size=32, seed=0)
    results = []
    for env in (VecMonitor(of_gymnasium("sync")), VecMonitor(dummy())):
        env.seed(3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            results.append(evaluate_policy(model, env, n_eval_episodes=10, return_episode_rewards=True))
    assert results[0] == results[1]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_run_that_is_killed_ends_as_one_that_is_not(kind, tmp_path):
    def learn(name: str, kill_at: int | None = None) -> Any:
        env = VecMonitor(of_gymnasium(kind))
        model = BaselinePG("MlpPolicy", env, n_trajectories=3, seed=3, device="cpu")
        with contextlib.suppress(Killed):
            model.learn(600, callback=[ResumeCallback(tmp_path / name, 150), Kill(kill_at)])
        env.close()
        return model

    undisturbed = learn("undisturbed")
    for kill_at in (250, 450):
        learn("killed", kill_at)
    killed = learn("killed")
    assert differences(learned(undisturbed), learned(killed)) == []
    # Envs of another kind are another training
    with pytest.raises(CheckpointError, match=r"env.wrappers was \['VecMonitor', 'GymnasiumVecEnv'.*, is \['DummyVecEnv'"):
        BaselinePG("MlpPolicy", dummy(), n_trajectories=3, seed=3).learn(
            900, callback=ResumeCallback(tmp_path / "killed", 250)
        )


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_monitors_that_forbid_early_resets(kind, tmp_path):
    wrappers = [partial(Monitor, allow_early_resets=False)]
    env = GymnasiumVecEnv(gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode=kind, wrappers=wrappers))
    with pytest.raises(ValueError, match=r"Monitor\(allow_early_resets=False\) cannot be reset in the middle"):
        REINFORCE("MlpPolicy", env)
    with pytest.raises(ValueError, match=r"Monitor\(allow_early_resets=False\) cannot be reset .* at a checkpoint"):
        PPO("MlpPolicy", env, n_steps=32).learn(100, callback=ResumeCallback(tmp_path / "checkpoint.pt", 50))
    env.close()
