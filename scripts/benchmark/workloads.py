"""
The workloads by name, and the participants that each can have.

``title`` is always a workload's title in tables.
"""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from crashalgos.experiments.run.registry import check_environment, did_you_mean

#: The participants' names on the command line, and their labels in tables
PARTICIPANTS = {
    "sb3": "SB3",
    "plain": "plain loop",
    "eager": "crashalgos, eager",
    "compiled": "crashalgos, compiled",
    "sbx": "SBX",
    "floor": "floor",
    "dummy": "DummyVecEnv",
    "subproc": "SubprocVecEnv",
    "sync": "gymnasium, sync",
    "async": "gymnasium, async",
    "envpool": "EnvPool",
}
# The participants that are vectorized envs; where a workload trains, our eager algorithm runs in each of them.
_VEC_ENVS = ("dummy", "subproc", "sync", "async", "envpool")

#: A workload's algorithm if it takes random actions and learns nothing
RANDOM = "random actions"

#: A workload's env if it shows random images of 84×84×4
IMAGES = "images"

# About how many steps an episode of the REINFORCE workloads has, whose policy is fixed.
_EPISODE_STEPS = 200


@dataclass(frozen=True)
class Workload:
    """
    An algorithm with its settings in an environment.

    :param title: its title in tables
    :param env: an id of gymnasium, or ``IMAGES``
    :param algorithm: PPO, REINFORCE or ``RANDOM``
    :param n_envs: how many envs run side by side; the plain loop always has one
    :param rollouts: how many rollouts, each with its update, a timed run has by default
    :param hyperparameters: arguments of the constructor; SB3, SBX and crashalgos have the same defaults for all others
    :param policy: the policy's name
    :param net_arch: the widths of the hidden layers; actor and critic have separate layers
    :param compares_vec_envs: whether the participants are vectorized envs
    """

    title: str
    env: str
    algorithm: str
    n_envs: int
    rollouts: int
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    policy: str = "MlpPolicy"
    net_arch: tuple[int, ...] = (64, 64)
    compares_vec_envs: bool = False

    @property
    def reference(self) -> str:
        """The participant whose speed is 1."""
        if self.compares_vec_envs:
            return "dummy"
        return "sb3" if self.algorithm == "PPO" else "plain"

    @property
    def participants(self) -> tuple[str, ...]:
        """The participants that this workload can have."""
        if self.compares_vec_envs:
            return _VEC_ENVS
        return ("sb3", "eager", "compiled", "sbx", "floor") if self.algorithm == "PPO" else ("plain", "eager", "compiled")

    @property
    def rollout_steps(self) -> int:
        """The number of steps in a rollout; an estimate for rollouts of whole trajectories."""
        if "n_steps" in self.hyperparameters:
            return self.n_envs * self.hyperparameters["n_steps"]
        return _EPISODE_STEPS * self.hyperparameters["n_trajectories"]


def ppo_workload(
    title: str, env: str, n_envs: int, rollouts: int, samples: int = 2048, n_epochs: int = 10, **kwargs: Any
) -> Workload:
    """
    Makes a workload of PPO.

    :param env: an id of gymnasium, or ``IMAGES``
    :param n_envs: how many envs run side by side
    :param rollouts: how many rollouts a timed run has by default
    :param samples: steps of a rollout, over all envs
    :param n_epochs: how many epochs an update has
    :param kwargs: other fields of the workload
    :return: the workload
    """
    hyperparameters = {"learning_rate": 3e-4, "n_steps": samples // n_envs, "batch_size": 64, "n_epochs": n_epochs}
    return Workload(title, env, "PPO", n_envs, rollouts, hyperparameters, **kwargs)


def reinforce_workload(n_envs: int, n_trajectories: int = 20, rollouts: int = 6) -> Workload:
    """
    Makes a workload of REINFORCE with a fixed policy: updates are calculated, but the learning rate is 0.

    :param n_envs: how many envs run side by side
    :param n_trajectories: N
    :param rollouts: how many rollouts a timed run has by default
    :return: the workload
    """
    title = f"REINFORCE, CartPole-v1, {n_trajectories} trajectories, {n_envs} envs"
    hyperparameters = {"learning_rate": 0.0, "n_trajectories": n_trajectories}
    return Workload(title, "CartPole-v1", "REINFORCE", n_envs, rollouts, hyperparameters)


def vec_envs_workload(title: str, workload: Workload) -> Workload:
    """
    Turns a workload into one that compares vectorized envs.

    :param workload: any workload
    :return: a changed copy
    """
    return replace(workload, title=title, compares_vec_envs=True)


#: The workloads that are measured by default
WORKLOADS = {
    "cartpole-8": ppo_workload("PPO, CartPole-v1, 8 envs × 256", "CartPole-v1", 8, 5),
    "cartpole-1": ppo_workload("PPO, CartPole-v1, 1 env × 2048", "CartPole-v1", 1, 3),
    "pendulum-8": ppo_workload("PPO, Pendulum-v1, 8 envs × 256", "Pendulum-v1", 8, 5),
    "halfcheetah-4": ppo_workload("PPO, HalfCheetah-v5, 4 envs × 512", "HalfCheetah-v5", 4, 4),
    "cnn": ppo_workload("PPO, images of 84×84×4, 4 envs × 64", IMAGES, 4, 4, 256, 2, policy="CnnPolicy", net_arch=()),
    "reinforce-8": reinforce_workload(8),
    "reinforce-20": reinforce_workload(20),
}

_CARTPOLES = "CartPole-v1, 8 envs"
_STEPS = Workload("", "CartPole-v1", RANDOM, 8, rollouts=10, hyperparameters={"n_steps": 256})
#: The workloads that are measured only when the command line names them
VEC_ENV_WORKLOADS = {
    "vec-envs": vec_envs_workload(f"Vectorized envs, random actions, {_CARTPOLES}", _STEPS),
    "vec-envs-ppo": vec_envs_workload(f"Vectorized envs, PPO, {_CARTPOLES} × 256", WORKLOADS["cartpole-8"]),
    "vec-envs-reinforce": vec_envs_workload(
        f"Vectorized envs, REINFORCE, {_CARTPOLES}, 20 trajectories", WORKLOADS["reinforce-8"]
    ),
}

#: The name on the command line for the time of ``import crashalgos``, which is no :class:`Workload`
IMPORT = "import"

#: What grows, and for each of its values a workload
GROWTH = {
    "envs": {
        n: ppo_workload(f"PPO, CartPole-v1, {n} env{'s' if n > 1 else ''}", "CartPole-v1", n, 2)
        for n in (1, 2, 4, 8, 16, 32, 64)
    },
    "hidden width": {
        n: ppo_workload(f"PPO, CartPole-v1, 8 envs, width {n}", "CartPole-v1", 8, 1 if n > 256 else 2, net_arch=(n, n))
        for n in (64, 128, 256, 512, 1024)
    },
    "trajectories": {n: reinforce_workload(8, n, rollouts=max(1, 60 // n)) for n in (10, 30, 100, 300, 1000)},
}
#: The participants of the growth workloads
GROWTH_PARTICIPANTS = ("sb3", "plain", "eager", "compiled")


def check_names(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """
    Checks names from the command line.

    :param what: the kind of name, for the message
    :param names: the names given
    :param known: the names allowed
    :raises ValueError: if there is no name, or an unknown one; the message suggests the nearest
    """
    names, known = tuple(names), tuple(known)
    if not names:
        raise ValueError(f"no {what} given (known: {', '.join(known)})")
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})")


def check_available(workload: Workload) -> None:
    """
    Checks that a workload's env can be made.

    :param workload: the workload
    :raises ValueError: if it cannot; the message names the extra to install
    """
    if workload.env != IMAGES:
        check_environment(workload.env)


def is_installed(module: str) -> bool:
    """
    Tells whether an optional module is installed, without importing it: JAX and PyTorch should not share a process.

    :param module: ``sbx`` or ``envpool``
    :return: whether it is
    """
    return importlib.util.find_spec(module) is not None


def with_least_steps(workload: Workload, steps: int | None) -> Workload:
    """
    Sets how many environment steps a timed run of a workload has at least.

    :param workload: the workload
    :param steps: the least number of steps; ``None``: the workload's own number of rollouts
    :return: the workload with enough rollouts
    """
    return workload if steps is None else replace(workload, rollouts=-(-steps // workload.rollout_steps))
