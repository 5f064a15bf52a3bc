"""
The participants: programs that run a number of rollouts with their updates, and time themselves.

``rollouts`` is always the number of rollouts of a timed run.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.env_util import make_vec_env

from crashalgos import PPO, REINFORCE
from scripts.benchmark import floor
from scripts.benchmark.plain_loop import PlainLoop, set_fixed_weights
from scripts.benchmark.workloads import IMAGES, RANDOM, Workload

# For learn(): a run ends after its rollouts, because the steps of REINFORCE's rollouts are not known beforehand.
_ENDLESS = 2**40
_SEED = 0


@dataclass(frozen=True)
class TimedRun:
    """
    The times of one run.

    :param steps: env steps; with REINFORCE those of the sample alone
    :param seconds: from the call of ``learn`` to its end
    :param rollouts: how many rollouts, each with its update
    :param rollout_seconds: all rollouts together
    :param update_seconds: all updates together
    :param first_update_seconds: from the call of ``learn`` to the end of the first update
    """

    steps: int
    seconds: float
    rollouts: int
    rollout_seconds: float
    update_seconds: float
    first_update_seconds: float

    @property
    def steps_per_second(self) -> float:
        """Env steps per second of the whole run."""
        return self.steps / self.seconds


class Participant(Protocol):
    """A program that is timed."""

    def run(self, rollouts: int) -> TimedRun:
        """
        Makes rollouts, each with its update.

        :param rollouts: how many
        :return: their times
        """


class ModelParticipant:
    """
    Trains a model that has SB3's interface.

    :param model: the model
    :param whole_trajectories: whether its rollouts are whole trajectories; then the buffer's steps are counted
    """

    def __init__(self, model: Any, whole_trajectories: bool = False) -> None:
        self.model = model
        self.whole_trajectories = whole_trajectories

    def run(self, rollouts: int) -> TimedRun:
        """Calls ``learn``, with ``collect_rollouts`` and ``train`` wrapped in a stopwatch."""
        model, stopwatch = self.model, _Stopwatch(rollouts)
        collect, update = model.collect_rollouts, model.train

        def timed_collect(*args: Any, **kwargs: Any) -> bool:
            if stopwatch.complete:
                return False
            steps_before = model.num_timesteps
            continue_training = stopwatch.rollout(lambda: collect(*args, **kwargs))
            stopwatch.steps += model.rollout_buffer.size() if self.whole_trajectories else model.num_timesteps - steps_before
            return continue_training

        def finished_update() -> None:
            update()
            floor.synchronize(model.device)

        model.collect_rollouts, model.train = timed_collect, lambda: stopwatch.update(finished_update)
        try:
            model.learn(_ENDLESS)
        finally:
            del model.collect_rollouts, model.train
        return stopwatch.timed_run()


class PlainParticipant:
    """
    Runs the plain loop with the fixed policy.

    :param workload: a workload of REINFORCE
    """

    def __init__(self, workload: Workload) -> None:
        self.loop = PlainLoop(workload.env, seed=_SEED, **workload.hyperparameters)
        set_fixed_weights(self.loop.policy)

    def run(self, rollouts: int) -> TimedRun:
        """Collects and trains in turn."""
        stopwatch = _Stopwatch(rollouts)
        while not stopwatch.complete:
            stopwatch.steps += stopwatch.rollout(self.loop.collect)
            stopwatch.update(self.loop.train)
        return stopwatch.timed_run()


class FloorParticipant:
    """
    Takes random actions in the env of SB3's PPO, and calculates the least time of the update's matrix products.

    :param model: SB3's PPO
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.products = floor.minibatch_products(model)

    def run(self, rollouts: int) -> TimedRun:
        """Times the env's steps and adds the calculated time of the updates."""
        model = self.model
        steps = model.n_steps * model.n_envs
        rate = floor.matrix_rate(floor.largest_hidden(self.products), model.device)
        update = floor.update_flops(self.products, steps, model.batch_size, model.n_epochs) / rate
        rollout = floor.time_random_steps(model.get_env(), model.n_steps * rollouts)
        return TimedRun(
            steps=steps * rollouts,
            seconds=rollout + update * rollouts,
            rollouts=rollouts,
            rollout_seconds=rollout,
            update_seconds=update * rollouts,
            first_update_seconds=rollout / rollouts + update,
        )


class RandomParticipant:
    """
    Takes random actions and learns nothing.

    :param env: the vectorized env
    :param n_steps: how many steps of each env are a rollout
    """

    def __init__(self, env: Any, n_steps: int) -> None:
        self.env, self.n_steps = env, n_steps

    def run(self, rollouts: int) -> TimedRun:
        """Times the env's steps; there are no updates."""
        steps = self.n_steps * rollouts
        seconds = floor.time_random_steps(self.env, steps)
        return TimedRun(steps * self.env.num_envs, seconds, rollouts, seconds, 0.0, seconds)


class _Stopwatch:
    """The clock of one run of so many rollouts; it starts when it is made."""

    def __init__(self, rollouts: int) -> None:
        self.rollouts = rollouts
        self.steps = 0
        self.rollout_seconds: list[float] = []
        self.update_seconds: list[float] = []
        self.first_update_seconds = float("nan")
        self.start = time.perf_counter()

    @property
    def complete(self) -> bool:
        """Whether all rollouts have had their update."""
        return len(self.update_seconds) == self.rollouts

    def rollout(self, collect: Callable[[], Any]) -> Any:
        """Times a rollout and gives its result."""
        start = time.perf_counter()
        result = collect()
        self.rollout_seconds.append(time.perf_counter() - start)
        return result

    def update(self, train: Callable[[], None]) -> None:
        """Times an update."""
        start = time.perf_counter()
        train()
        end = time.perf_counter()
        self.update_seconds.append(end - start)
        if len(self.update_seconds) == 1:
            self.first_update_seconds = end - self.start

    def timed_run(self) -> TimedRun:
        """Ends the run and gives its times."""
        return TimedRun(
            steps=self.steps,
            seconds=time.perf_counter() - self.start,
            rollouts=self.rollouts,
            rollout_seconds=sum(self.rollout_seconds),
            update_seconds=sum(self.update_seconds),
            first_update_seconds=self.first_update_seconds,
        )


def make_participant(name: str, workload: Workload, device: str = "cpu") -> Participant:
    """
    Makes a participant, with new envs and an untrained model.

    :param name: a key of ``PARTICIPANTS``
    :param workload: the workload
    :param device: PyTorch's device
    :return: the participant
    """
    if name == "plain":
        return PlainParticipant(workload)
    if name == "sbx":
        return ModelParticipant(_make_sbx_model(workload))
    env = _make_compared_env(workload, name) if workload.compares_vec_envs else _make_env(workload)
    if workload.algorithm == RANDOM:
        return RandomParticipant(env, workload.hyperparameters["n_steps"])
    arguments: dict[str, Any] = {"policy": workload.policy, "env": env, "seed": _SEED, "device": device}
    arguments |= {"policy_kwargs": {"net_arch": list(workload.net_arch)}, **workload.hyperparameters}
    if name == "sb3":
        return ModelParticipant(SB3PPO(**arguments))
    if name == "floor":
        return FloorParticipant(SB3PPO(**arguments))
    compile = name == "compiled"
    if workload.algorithm == "PPO":
        return ModelParticipant(PPO(**arguments, compile=compile))
    reinforce = REINFORCE(**arguments, compile=compile)
    set_fixed_weights(reinforce.policy)
    return ModelParticipant(reinforce, whole_trajectories=True)


def _make_sbx_model(workload: Workload) -> Any:
    """Makes SBX's PPO with a network of SB3's shape; with a CNN, actor and critic have one each."""
    # SBX is optional, and its JAX would slow down every other participant's process.
    sbx, nn = import_module("sbx"), import_module("flax.linen")
    activation = nn.tanh if workload.policy == "MlpPolicy" else nn.relu
    policy_kwargs = {"net_arch": list(workload.net_arch), "activation_fn": activation}
    env = _make_env(workload)
    return sbx.PPO(workload.policy, env, seed=_SEED, policy_kwargs=policy_kwargs, **workload.hyperparameters)


def _make_env(workload: Workload) -> Any:
    """Makes the workload's envs, side by side in this process."""
    if workload.env != IMAGES:
        return make_vec_env(workload.env, n_envs=workload.n_envs, seed=_SEED)
    from stable_baselines3.common.envs import FakeImageEnv

    kwargs = {"screen_height": 84, "screen_width": 84, "n_channels": 4, "discrete": True}
    return make_vec_env(FakeImageEnv, n_envs=workload.n_envs, seed=_SEED, env_kwargs=kwargs)


def _make_compared_env(workload: Workload, kind: str) -> Any:
    """Makes the workload's envs as one kind of vectorized env; for training, episodes are monitored."""
    import gymnasium as gym
    from gymnasium.vector import AutoresetMode
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor

    from crashalgos.vec_envs import EnvPoolVecEnv, GymnasiumVecEnv

    n_envs = workload.n_envs
    if kind == "envpool":
        # Small envs are not worth waking several threads for
        env: Any = EnvPoolVecEnv(workload.env, n_envs, num_threads=1)
    elif kind in ("sync", "async"):
        same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
        env = GymnasiumVecEnv(gym.make_vec(workload.env, n_envs, vectorization_mode=kind, vector_kwargs=same_step))
    else:
        env = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv}[kind]([lambda: gym.make(workload.env)] * n_envs)
    env.seed(_SEED)
    return env if workload.algorithm == RANDOM else VecMonitor(env)
