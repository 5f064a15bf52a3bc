"""
A contender's process. It answers requests, one after the other: a number of rollouts is a training, ``None`` asks what the
process has used.

This module, and with it crashalgos and SB3, is loaded in every contender's process: a few megabytes that each of them has.
"""

import os
import platform
import re
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from scripts.benchmark.workloads import IMAGES, RANDOM, Workload

# Trainings end after a number of rollouts: of REINFORCE nobody knows beforehand how many steps these have.
ENDLESS = 2**40
SEED = 0


@dataclass(frozen=True)
class Task:
    """
    :param contender: who
    :param workload: at what
    :param log: the file that takes what the process prints
    :param cache: where PyTorch's compiler keeps what it has compiled; ``None``: where it always does
    :param threads: PyTorch's threads; ``None``: what PyTorch takes
    :param device: PyTorch's device
    """

    contender: str
    workload: Workload
    log: Path
    cache: Path | None = None
    threads: int | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Training:
    """
    :param steps: env steps; of REINFORCE those of the sample
    :param seconds: from the call of ``learn`` to its end
    :param rollouts: how many rollouts, each with its update
    :param rollout_seconds: in rollouts, together
    :param update_seconds: in updates, together
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
        """Steps in a second."""
        return self.steps / self.seconds


@dataclass(frozen=True)
class Usage:
    """
    :param peak_mb: the most memory that the process has held
    :param threads: PyTorch's threads
    :param warnings: what was warned of
    """

    peak_mb: float
    threads: int
    warnings: list[str]


@dataclass(frozen=True)
class Failure:
    """
    :param reason: in one line
    """

    reason: str


class Contender(Protocol):
    """What a process holds."""

    def train(self, rollouts: int) -> Training:
        """
        :param rollouts: how many
        :return: what it took
        """


class ModelContender:
    """
    A model with SB3's interface.

    :param model: the model
    :param whole_trajectories: whether the buffer says how many steps a rollout had
    """

    def __init__(self, model: Any, whole_trajectories: bool) -> None:
        self.model = model
        self.whole_trajectories = whole_trajectories

    def train(self, rollouts: int) -> Training:
        """
        :param rollouts: how many
        :return: what it took
        """
        from scripts.benchmark.floor import synchronize

        model, clock = self.model, Stopwatch(rollouts)
        collect, update = model.collect_rollouts, model.train

        def timed_collect(*args: Any, **kwargs: Any) -> bool:
            if clock.complete:
                return False
            before = model.num_timesteps
            with_more = clock.rollout(lambda: collect(*args, **kwargs))
            clock.steps += model.rollout_buffer.size() if self.whole_trajectories else model.num_timesteps - before
            return with_more

        def finished_update() -> None:
            update()
            synchronize(model.device)

        model.collect_rollouts, model.train = timed_collect, lambda: clock.update(finished_update)
        try:
            model.learn(ENDLESS)
        finally:
            del model.collect_rollouts, model.train
        return clock.stop()


class PlainContender:
    """
    The plain loop with the fixed policy.

    :param workload: its workload
    """

    def __init__(self, workload: Workload) -> None:
        from scripts.benchmark.plain_loop import PlainLoop, fix_policy

        self.loop = PlainLoop(workload.env, seed=SEED, **workload.hyperparameters)
        fix_policy(self.loop.policy)

    def train(self, rollouts: int) -> Training:
        """
        :param rollouts: how many
        :return: what it took
        """
        clock = Stopwatch(rollouts)
        while not clock.complete:
            clock.steps += clock.rollout(self.loop.collect)
            clock.update(self.loop.train)
        return clock.stop()


class FloorContender:
    """
    The env of SB3's PPO with random actions, and the arithmetic of its update.

    :param model: SB3's PPO
    """

    def __init__(self, model: Any) -> None:
        from scripts.benchmark.floor import minibatch_products

        self.model = model
        self.products = minibatch_products(model)

    def train(self, rollouts: int) -> Training:
        """
        :param rollouts: how many
        :return: what it would take
        """
        from scripts.benchmark import floor

        model = self.model
        steps = model.n_steps * model.n_envs
        rate = floor.matrix_rate(floor.largest(self.products), model.device)
        update = floor.update_flops(self.products, steps, model.batch_size, model.n_epochs) / rate
        rollout = floor.seconds_of_random_steps(model.get_env(), model.n_steps * rollouts)
        return Training(
            steps=steps * rollouts,
            seconds=rollout + update * rollouts,
            rollouts=rollouts,
            rollout_seconds=rollout,
            update_seconds=update * rollouts,
            first_update_seconds=rollout / rollouts + update,
        )


class RandomContender:
    """
    Envs with random actions.

    :param env: the envs
    :param n_steps: how many steps of each env are a rollout
    """

    def __init__(self, env: Any, n_steps: int) -> None:
        self.env, self.n_steps = env, n_steps

    def train(self, rollouts: int) -> Training:
        """
        :param rollouts: how many
        :return: what they took
        """
        from scripts.benchmark.floor import seconds_of_random_steps

        steps = self.n_steps * rollouts
        seconds = seconds_of_random_steps(self.env, steps)
        return Training(steps * self.env.num_envs, seconds, rollouts, seconds, 0.0, seconds)


class Stopwatch:
    """
    The clock of one training; it runs from the beginning.

    :param rollouts: after how many it is complete
    """

    def __init__(self, rollouts: int) -> None:
        self.rollouts = rollouts
        self.steps = 0
        self.rollout_seconds: list[float] = []
        self.update_seconds: list[float] = []
        self.first_update_seconds = float("nan")
        self.start = time.perf_counter()

    @property
    def complete(self) -> bool:
        """Whether all rollouts have been learned from."""
        return len(self.update_seconds) == self.rollouts

    def rollout(self, work: Callable[[], Any]) -> Any:
        """
        :param work: a rollout
        :return: what it returns
        """
        start = time.perf_counter()
        result = work()
        self.rollout_seconds.append(time.perf_counter() - start)
        return result

    def update(self, work: Callable[[], None]) -> None:
        """
        :param work: an update
        """
        start = time.perf_counter()
        work()
        end = time.perf_counter()
        self.update_seconds.append(end - start)
        if len(self.update_seconds) == 1:
            self.first_update_seconds = end - self.start

    def stop(self) -> Training:
        """:return: what it took"""
        return Training(
            steps=self.steps,
            seconds=time.perf_counter() - self.start,
            rollouts=self.rollouts,
            rollout_seconds=sum(self.rollout_seconds),
            update_seconds=sum(self.update_seconds),
            first_update_seconds=self.first_update_seconds,
        )


def make_contender(task: Task) -> Contender:
    """
    :param task: a task
    :return: its contender, which has not trained yet
    """
    workload = task.workload
    if task.contender == "plain":
        return PlainContender(workload)
    if task.contender == "sbx":
        return ModelContender(make_sbx_model(workload), whole_trajectories=False)
    env = make_compared_env(workload, task.contender) if workload.compares_vec_envs else make_env(workload)
    if workload.algorithm == RANDOM:
        return RandomContender(env, workload.hyperparameters["n_steps"])
    arguments: dict[str, Any] = {"policy": workload.policy, "env": env, "seed": SEED, "device": task.device}
    arguments |= {"policy_kwargs": {"net_arch": list(workload.net_arch)}, **workload.hyperparameters}
    if task.contender in ("sb3", "floor"):
        from stable_baselines3 import PPO as SB3PPO

        model = SB3PPO(**arguments)
        return FloorContender(model) if task.contender == "floor" else ModelContender(model, whole_trajectories=False)

    from crashalgos import PPO, REINFORCE

    compile = task.contender == "compiled"
    if workload.algorithm == "PPO":
        return ModelContender(PPO(**arguments, compile=compile), whole_trajectories=False)
    from scripts.benchmark.plain_loop import fix_policy

    reinforce = REINFORCE(**arguments, compile=compile)
    fix_policy(reinforce.policy)
    return ModelContender(reinforce, whole_trajectories=True)


def make_sbx_model(workload: Workload) -> Any:
    """
    :param workload: a workload of PPO
    :return: SBX's PPO, its network of the shape of SB3's; with a CNN, actor and critic have one each
    """
    from importlib import import_module

    # They need not be installed.
    sbx, nn = import_module("sbx"), import_module("flax.linen")
    activation = nn.tanh if workload.policy == "MlpPolicy" else nn.relu
    policy_kwargs = {"net_arch": list(workload.net_arch), "activation_fn": activation}
    env = make_env(workload)
    return sbx.PPO(workload.policy, env, seed=SEED, policy_kwargs=policy_kwargs, **workload.hyperparameters)


def make_env(workload: Workload) -> Any:
    """
    :param workload: a workload
    :return: its envs, side by side in this process
    """
    from stable_baselines3.common.env_util import make_vec_env

    if workload.env != IMAGES:
        return make_vec_env(workload.env, n_envs=workload.n_envs, seed=SEED)
    from stable_baselines3.common.envs import FakeImageEnv

    kwargs = {"screen_height": 84, "screen_width": 84, "n_channels": 4, "discrete": True}
    return make_vec_env(FakeImageEnv, n_envs=workload.n_envs, seed=SEED, env_kwargs=kwargs)


def make_compared_env(workload: Workload, kind: str) -> Any:
    """
    :param workload: a workload that compares vectorized envs
    :param kind: which of these
    :return: its envs; where something is trained, with the statistics of episodes
    """
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
    env.seed(SEED)
    return env if workload.algorithm == RANDOM else VecMonitor(env)


def work(task: Task, connection: Connection) -> None:
    """
    The process.

    :param task: what it is for
    :param connection: takes requests, gives answers; the first answer is ``None``: the contender is there
    """
    # A group of its own, so that the compiler's processes end with this one.
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    log = os.open(task.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if task.cache is not None:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(task.cache)
    warned: list[str] = []

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        warned.append(" ".join(str(message).split()))

    warnings.showwarning = note
    try:
        import torch as th

        if task.threads is not None:
            th.set_num_threads(task.threads)
        contender = make_contender(task)
        connection.send(None)
        while True:
            request = connection.recv()
            if request is None:
                connection.send(Usage(peak_memory_mb(), th.get_num_threads(), warned))
            else:
                connection.send(contender.train(request))
    except EOFError:
        return
    except Exception as error:
        import traceback

        traceback.print_exc()
        connection.send(Failure(f"{type(error).__name__}: {' '.join(str(error).split())}"))


def peak_memory_mb() -> float:
    """:return: the most memory this process has held, in units of 10⁶ bytes"""
    try:
        # Linux hands the peak of the parent down to getrusage of the child; this one starts anew.
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if platform.system() == "Darwin" else 1024) / 1e6
