"""Columns that a subclass adds to the rollout, through the hooks of the algorithm."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from crashalgos import PPO, BaselinePG
from crashalgos.common.policies import SeparateActorCriticPolicy
from crashalgos.common.rollout_buffers import Column
from tests.helpers.algorithms import each_algorithm
from tests.helpers.envs import scripted

ROLLOUTS: list[dict[str, Any]] = [dict(n_steps=8, batch_size=8), dict(n_trajectories=4)]


class Clock(VecEnvWrapper):
    """Counts the steps of each env in an array that it changes in place, as a memory may."""

    def __init__(self, env: VecEnv) -> None:
        super().__init__(env)
        self.time = np.zeros(self.num_envs)

    def reset(self) -> Any:
        self.time[:] = 0
        return self.venv.reset()

    def step_wait(self) -> Any:
        self.time += 1
        return self.venv.step_wait()


class TimedPolicy(ActorCriticPolicy):
    """Records the times that it is given."""

    def forward(self, obs, deterministic=False, time=None):
        self.__dict__.setdefault("seen", []).append(time.clone())
        return super().forward(obs, deterministic)


class TimedPPO(PPO):
    """PPO whose policy is given the time, and whose rollout keeps the cost of each step."""

    def _columns(self):
        return {"time": Column(), "cost": Column((2,), np.float64)}

    def _policy_inputs(self, env):
        return {"time": env.time}

    def _step_columns(self, step):
        return {"cost": np.stack([step.rewards, -step.rewards], axis=1)}


@pytest.mark.parametrize("rollout", ROLLOUTS, ids=str)
def test_columns_hold_what_the_policy_was_given_and_what_the_step_gave(rollout):
    """The array that the wrapper changes in place is copied before the step."""
    model = TimedPPO(TimedPolicy, Clock(scripted([[5], [5]])), device="cpu", seed=0, n_epochs=1, **rollout)
    model.learn(1)
    batch = next(model.rollout_buffer.get(None))
    seen = th.stack(model.policy.seen)  # shape (n_steps, n_envs)
    assert seen.dtype == th.float32 and seen[:, 0].tolist() == list(range(len(seen)))
    assert sorted(batch.time.tolist()) == sorted(seen.flatten().tolist())
    assert batch.cost.dtype == th.float64 and th.equal(batch.cost[:, 0], -batch.cost[:, 1])
    rewards = model.rollout_buffer.rewards.flatten()
    # With n_steps, γV is added to the rewards of truncated episodes in place, here as in the costs: there are none
    assert sorted(batch.cost[:, 0].tolist()) == sorted(rewards.astype(np.float64).tolist())


@pytest.mark.parametrize("rollout", ROLLOUTS, ids=str)
def test_a_column_that_is_not_finite_is_named(rollout):
    class Broken(TimedPPO):
        def _policy_inputs(self, env):
            return {"time": np.where(env.time == 2, np.nan, env.time)}

    class Fragile(TimedPolicy):
        def forward(self, obs, deterministic=False, time=None):
            return super().forward(obs + time[:, None], deterministic, time)

    with pytest.raises(ValueError, match=r"policy input\['time'\]\[0\] is nan"):
        Broken(Fragile, Clock(scripted([[5], [5]])), device="cpu", seed=0, **rollout).learn(1)


def test_inputs_that_no_column_declares_are_named():
    class Undeclared(PPO):
        def _policy_inputs(self, env):
            return {"time": env.time}

    settings: dict[str, Any] = dict(device="cpu", n_steps=8, batch_size=8)
    env = Clock(scripted([[5], [5]]))
    with pytest.raises(ValueError, match=r"column 'time' must be one that is declared, \[\]"):
        Undeclared("MlpPolicy", env, **settings).learn(1)
    users = type("Mine", (RolloutBuffer,), {})
    with pytest.raises(ValueError, match=r"`_columns` must declare the policy's inputs \['time'\]"):
        Undeclared("MlpPolicy", env, rollout_buffer_class=users, **settings).learn(1)


def test_a_critic_of_baseline_pg_can_read_a_column():
    """V_ψ is fitted, and the advantages are calculated, through one hook that gets the minibatch."""

    class Timed(BaselinePG):
        seen: set[float] = set()  # noqa: RUF012

        def _columns(self):
            return {"time": Column()}

        def _policy_inputs(self, env):
            return {"time": env.time}

        def _values(self, batch):
            self.seen |= set(batch.time.tolist())
            return super()._values(batch)

    class Policy(SeparateActorCriticPolicy):
        def forward(self, obs, deterministic=False, time=None):
            return super().forward(obs, deterministic)

    Timed(Policy, Clock(scripted([[5], [5]])), n_trajectories=4, device="cpu").learn(1)
    assert Timed.seen == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0}


@each_algorithm
def test_a_model_is_freed_without_the_garbage_collector(algorithm):
    """Nothing that a rollout needs refers to the model, or to an env that was exchanged, when the rollout is over."""
    env = scripted([[3], [2]])
    model = algorithm("MlpPolicy", env, n_trajectories=2, device="cpu").learn(1)
    gc.collect()
    gc.disable()
    try:
        gone = [weakref.ref(env), weakref.ref(model), weakref.ref(model.rollout_buffer)]
        model.set_env(scripted([[3], [2]]))
        del env
        assert gone[0]() is None
        del model
        assert gone[1]() is None and gone[2]() is None
    finally:
        gc.enable()
