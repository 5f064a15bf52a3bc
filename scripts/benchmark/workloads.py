"""What is measured: workloads by name, and who takes part in them."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from crashalgos.experiments.run.registry import nearest

#: The contenders and what tables call them
CONTENDERS = {
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
#: Those that compare vectorized envs, each with ours, eager, where something is trained
VEC_ENVS = ("dummy", "subproc", "sync", "async", "envpool")

#: In place of an algorithm: random actions, and nothing is learned
RANDOM = "random actions"

#: In place of an env's id: images of 84×84×4 without a game behind them
IMAGES = "images"

#: How long an episode of the REINFORCE workloads is, about: their policy is fixed
EPISODE_STEPS = 200


@dataclass(frozen=True)
class Workload:
    """
    :param title: what tables call it
    :param env: an id of gymnasium, or ``IMAGES``
    :param algorithm: PPO, REINFORCE or ``RANDOM``
    :param n_envs: how many envs side by side; the plain loop has one
    :param rollouts: how many rollouts, each with its update, a timed training has by default
    :param hyperparameters: arguments of the constructor; what is not given is the same default in SB3, SBX and here
    :param policy: the policy's name
    :param net_arch: the widths of the hidden layers of actor and critic, each with its own
    :param compares_vec_envs: whether it is vectorized envs that take part
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
        """Whom the others are measured against."""
        if self.compares_vec_envs:
            return "dummy"
        return "sb3" if self.algorithm == "PPO" else "plain"

    @property
    def contenders(self) -> tuple[str, ...]:
        """Who can take part."""
        if self.compares_vec_envs:
            return VEC_ENVS
        return ("sb3", "eager", "compiled", "sbx", "floor") if self.algorithm == "PPO" else ("plain", "eager", "compiled")

    @property
    def rollout_steps(self) -> int:
        """How many steps a rollout has; where trajectories end when they end, about."""
        if "n_steps" in self.hyperparameters:
            return self.n_envs * self.hyperparameters["n_steps"]
        return EPISODE_STEPS * self.hyperparameters["n_trajectories"]


def ppo(title: str, env: str, n_envs: int, rollouts: int, samples: int = 2048, n_epochs: int = 10, **kwargs: Any) -> Workload:
    """
    :param title: what tables call it
    :param env: an id of gymnasium, or ``IMAGES``
    :param n_envs: how many envs side by side
    :param rollouts: how many rollouts a timed training has by default
    :param samples: steps of a rollout, all envs together
    :param n_epochs: how often an update goes over them
    :param kwargs: other fields of the workload
    :return: a workload of PPO
    """
    hyperparameters = {"learning_rate": 3e-4, "n_steps": samples // n_envs, "batch_size": 64, "n_epochs": n_epochs}
    return Workload(title, env, "PPO", n_envs, rollouts, hyperparameters, **kwargs)


def reinforce(n_envs: int, n_trajectories: int = 20, rollouts: int = 6) -> Workload:
    """
    :param n_envs: how many envs side by side
    :param n_trajectories: N
    :param rollouts: how many rollouts a timed training has by default
    :return: a workload of REINFORCE whose policy stays the same: the update is calculated, and its step has length 0
    """
    title = f"REINFORCE, CartPole-v1, {n_trajectories} trajectories, {n_envs} envs"
    hyperparameters = {"learning_rate": 0.0, "n_trajectories": n_trajectories}
    return Workload(title, "CartPole-v1", "REINFORCE", n_envs, rollouts, hyperparameters)


WORKLOADS = {
    "cartpole-8": ppo("PPO, CartPole-v1, 8 envs × 256", "CartPole-v1", 8, 5),
    "cartpole-1": ppo("PPO, CartPole-v1, 1 env × 2048", "CartPole-v1", 1, 3),
    "pendulum-8": ppo("PPO, Pendulum-v1, 8 envs × 256", "Pendulum-v1", 8, 5),
    "halfcheetah-4": ppo("PPO, HalfCheetah-v5, 4 envs × 512", "HalfCheetah-v5", 4, 4),
    "cnn": ppo("PPO, images of 84×84×4, 4 envs × 64", IMAGES, 4, 4, 256, 2, policy="CnnPolicy", net_arch=()),
    "reinforce-8": reinforce(8),
    "reinforce-20": reinforce(20),
}


def vec_envs(title: str, workload: Workload) -> Workload:
    """
    :param title: what tables call it
    :param workload: a workload
    :return: the same, to compare vectorized envs
    """
    return replace(workload, title=title, compares_vec_envs=True)


_CARTPOLES = "CartPole-v1, 8 envs"
_STEPS = Workload("", "CartPole-v1", RANDOM, 8, rollouts=10, hyperparameters={"n_steps": 256})
#: Those that are measured only when they are asked for
MORE_WORKLOADS = {
    "vec-envs": vec_envs(f"Vectorized envs, random actions, {_CARTPOLES}", _STEPS),
    "vec-envs-ppo": vec_envs(f"Vectorized envs, PPO, {_CARTPOLES} × 256", WORKLOADS["cartpole-8"]),
    "vec-envs-reinforce": vec_envs(f"Vectorized envs, REINFORCE, {_CARTPOLES}, 20 trajectories", WORKLOADS["reinforce-8"]),
}
#: The workload that is none of training
IMPORT = "import"

#: How cost grows: by what it grows with, a workload for each value
GROWTH = {
    "envs": {
        n: ppo(f"PPO, CartPole-v1, {n} env{'s' if n > 1 else ''}", "CartPole-v1", n, 2) for n in (1, 2, 4, 8, 16, 32, 64)
    },
    "hidden width": {
        n: ppo(f"PPO, CartPole-v1, 8 envs, width {n}", "CartPole-v1", 8, 1 if n > 256 else 2, net_arch=(n, n))
        for n in (64, 128, 256, 512, 1024)
    },
    "trajectories": {n: reinforce(8, n, rollouts=max(1, 60 // n)) for n in (10, 30, 100, 300, 1000)},
}
#: Who takes part in these, where the workload has them
GROWING = ("sb3", "plain", "eager", "compiled")


def check_names(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """
    :param what: what they name
    :param names: names from the command line
    :param known: those that there are
    :raises ValueError: if there are none, or one that is not known, naming the nearest
    """
    names, known = tuple(names), tuple(known)
    if not names:
        raise ValueError(f"no {what} given (known: {', '.join(known)})")
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}{nearest(name, known)} (known: {', '.join(known)})")


def check_available(workload: Workload) -> None:
    """
    :param workload: a workload
    :raises ValueError: if its env cannot be made, naming the extra to install
    """
    from crashalgos.experiments.run.registry import check_environment

    if workload.env != IMAGES:
        check_environment(workload.env)


def envpool_installed() -> bool:
    """:return: whether EnvPool can take part"""
    return importlib.util.find_spec("envpool") is not None


def sbx_installed() -> bool:
    """:return: whether SBX can take part; it is not imported, because JAX and PyTorch should not share a process"""
    return importlib.util.find_spec("sbx") is not None


def with_rollouts(workload: Workload, steps: int | None) -> Workload:
    """
    :param workload: a workload
    :param steps: how long a timed training is at least; ``None``: the workload's own length
    :return: the same of that length
    """
    return workload if steps is None else replace(workload, rollouts=-(-steps // workload.rollout_steps))
