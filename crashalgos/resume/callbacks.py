"""Callbacks with which a killed run resumes to the same weights: at a checkpoint the envs start afresh."""

import copy
import io
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from crashalgos.common.checks import check_count
from crashalgos.common.files import replacing
from crashalgos.common.metadata import describe_env, hyperparameters
from crashalgos.common.on_policy_algorithm import PolicyGradientAlgorithm
from crashalgos.common.random_state import random_state, set_random_state
from crashalgos.common.rollouts import forbids_early_resets
from crashalgos.resume.renewable_vec_env import renew
from crashalgos.resume.state import (
    callbacks_state,
    logger_state,
    plain_attributes,
    set_callbacks_state,
    set_logger_state,
)

_NORMALIZATION = ("obs_rms", "ret_rms", "training")

#: Attributes of the model that may change between two starts of a run
_MAY_CHANGE = {"verbose", "tensorboard_log"}
#: Attributes that are not kept, because the env gives them anew or they are measured from the process's own start
_NOT_KEPT = _MAY_CHANGE | {"_last_obs", "_last_original_obs", "_last_episode_starts", "start_time"}


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or is of another training."""


class RestartCallback(BaseCallback):
    """
    Lets all envs start afresh at the first rollout after every ``checkpoint_freq`` env steps, from seeds that follow from the
    model's seed and the number of the restart. For any of SB3's on-policy algorithms.

    :param checkpoint_freq: env steps between restarts, long beside an episode: what was going on is broken off
    :raises ValueError: from ``learn``, if an env cannot be reset in the middle of an episode
    """

    def __init__(self, checkpoint_freq: int) -> None:
        super().__init__()
        check_count("checkpoint_freq", checkpoint_freq)
        self.checkpoint_freq = checkpoint_freq
        self.number = 0
        self.entropy: Any = None

    def _on_training_start(self) -> None:
        if forbids_early_resets(self.training_env):
            raise ValueError(
                "An env in Monitor(allow_early_resets=False) cannot be reset in the middle of an episode, as it is at a "
                "checkpoint: use Monitor(allow_early_resets=True)"
            )
        self.number = self.model.num_timesteps // self.checkpoint_freq
        # Without a seed, a random one
        self.entropy = np.random.SeedSequence(self.model.seed).entropy

    def _on_rollout_start(self) -> None:
        # The first call after `train`, before anything is done with the envs' observations
        number = self.model.num_timesteps // self.checkpoint_freq
        if number > self.number:
            self.number = number
            self._at_checkpoint()
            self._restart_envs()

    def _on_step(self) -> bool:
        return True

    def _at_checkpoint(self) -> None:
        """Before the envs start afresh."""

    def _restart_envs(self) -> None:
        assert isinstance(self.model, OnPolicyAlgorithm)
        env = self.training_env
        renew(env)
        (seed,) = np.random.SeedSequence(self.entropy, spawn_key=(self.number,)).generate_state(1)
        env.seed(int(seed >> 1))  # an env adds its index, and all seeds fit 32 bits
        self.model._last_obs = env.reset()  # type: ignore[assignment]
        self.model._last_episode_starts = np.ones(env.num_envs, dtype=bool)


class ResumeCallback(RestartCallback):
    """
    Makes ``learn`` resumable: it writes a checkpoint to a file, and where the file is there already, it goes on from it. A
    program that was killed at any moment and is started again ends with the weights of one that was never killed, to the
    last bit::

        model = PPO("MlpPolicy", "CartPole-v1", seed=0)
        model.learn(1_000_000, callback=ResumeCallback("ppo.checkpoint", checkpoint_freq=50_000))

    At a checkpoint the envs start afresh, from seeds that follow from the model's seed and the checkpoint's number, in the
    training that nobody kills, too: their state is not saved, and need not be. So the weights are not those of a training
    without this callback. A checkpoint is written at the first rollout after every ``checkpoint_freq`` env steps, after
    ``train``. It holds parameters, optimizers, every random state, ``VecNormalize``'s statistics, the absolute horizon of the
    schedules, the windows of finished episodes, counters of the model and of all callbacks, what is pending in the logger,
    and the logger's CSV, JSON and text files.

    - It comes before callbacks that act on ``on_rollout_start``: first in the list is right.
    - One instance and file serve one ``learn``. The file stays when the training has ended; a program that is started once
      more does the last part again. Delete it to start anew.
    - Of a callback, the attributes that are plain data are restored, unless it has ``state_dict`` and ``load_state_dict``.
    - Envs have to be determined by the seed of a reset: :class:`RenewableVecEnv` is for those that are not. Not saved are
      what a callable baseline or a user's wrapper keeps, and the random state of an evaluation env (SB3's ``EvalCallback``).
    - ``Monitor``'s files, and those of a logger, are begun anew by every program that opens them; the logger's are then
      given back what they held at the checkpoint.
    - PyTorch has to use as many threads as before. ``compile=True``: the same where a process compiles the same graphs.
    - Whoever can write the file can run code when it is read.

    :param path: the file
    :param checkpoint_freq: env steps between checkpoints, long beside an episode
    :raises CheckpointError: from ``learn``, if the file cannot be read, or is of another training, naming what differs
    """

    model: PolicyGradientAlgorithm

    def __init__(self, path: str | Path, checkpoint_freq: int) -> None:
        super().__init__(checkpoint_freq)
        self.path = Path(path)
        self.rollouts = 0
        self._started = False
        self._found: dict[str, Any] | None = None

    def _on_training_start(self) -> None:
        if not isinstance(self.model, PolicyGradientAlgorithm):
            raise ValueError(f"ResumeCallback is for REINFORCE, BaselinePG and PPO of crashalgos, not {type(self.model)}")
        if self._started:
            raise ValueError("A ResumeCallback serves one `learn`: make another one, with another file, for the next")
        self._started = True
        super()._on_training_start()
        self._made_by = made_by(self.model, self.checkpoint_freq)
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return
        self._found = self._read()
        # Now, for callbacks that start after this one (W&B continues its run, a bar its count); the rest when they all have
        self.model.num_timesteps = self.num_timesteps = self._found["model"]["num_timesteps"]
        set_callbacks_state(self.locals["callback"], copy.deepcopy(self._found["callbacks"]))

    def _on_rollout_start(self) -> None:
        if self._found is None:
            super()._on_rollout_start()
            return
        self._restore(self._found)
        self._found = None
        self._restart_envs()

    def _on_rollout_end(self) -> None:
        self.rollouts += 1

    def _at_checkpoint(self) -> None:
        state = {
            "made_by": self._made_by,
            "torch": th.__version__,
            "entropy": self.entropy,
            "seconds": (time.time_ns() - self.model.start_time) / 1e9,
            "parameters": self.model.get_parameters(),
            "random": random_state(self.model),
            "model": plain_attributes(self.model, _NOT_KEPT),
            "normalization": self._normalization(),
            "callbacks": callbacks_state(self.locals["callback"]),
            "logger": logger_state(self.logger),
        }
        content = io.BytesIO()
        th.save(state, content)  # PyTorch's own writer does not say that a disk is full
        with replacing(self.path) as temporary:
            temporary.write_bytes(content.getvalue())

    def _read(self) -> dict[str, Any]:
        try:
            state = th.load(self.path, map_location="cpu", weights_only=False)
            made_by_then = state["made_by"]
        except Exception as error:
            raise CheckpointError(
                f"the checkpoint {str(self.path)!r} cannot be read ({type(error).__name__}: {error}): delete it to start anew"
            ) from error
        changes = [
            f"{name} was {made_by_then.get(name)!r}, is {self._made_by.get(name)!r}"
            for name in {**made_by_then, **self._made_by}
            if made_by_then.get(name) != self._made_by.get(name)
        ]
        if changes:
            raise CheckpointError(
                f"the checkpoint {str(self.path)!r} is of another training ({'; '.join(changes)}): "
                "delete it, or use another file"
            )
        if state["torch"] != th.__version__:
            warnings.warn(
                f"The checkpoint is PyTorch {state['torch']}'s, this is {th.__version__}: bits may differ", stacklevel=2
            )
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        model = self.model
        model.set_parameters(state["parameters"], exact_match=True, device=model.device)
        vars(model).update(state["model"])
        model.start_time = time.time_ns() - int(state["seconds"] * 1e9)
        normalization = model.get_vec_normalize_env()
        if normalization is not None:
            vars(normalization).update(state["normalization"])
        set_callbacks_state(self.locals["callback"], state["callbacks"])
        model._iterations_before = self.rollouts
        self.entropy = state["entropy"]
        set_logger_state(self.logger, state["logger"])
        # The last: nothing is drawn after it but by the envs, as in the process that wrote it
        set_random_state(model, state["random"])

    def _normalization(self) -> dict[str, Any]:
        normalization = self.model.get_vec_normalize_env()
        return {name: getattr(normalization, name) for name in _NORMALIZATION if hasattr(normalization, name)}

    def state_dict(self) -> dict[str, Any]:
        """:return: its counters"""
        return {"n_calls": self.n_calls, "number": self.number, "rollouts": self.rollouts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """:param state: what ``state_dict`` gave"""
        vars(self).update(state)


def made_by(model: PolicyGradientAlgorithm, checkpoint_freq: int) -> dict[str, Any]:
    """
    :param model: a model that has begun to learn
    :param checkpoint_freq: env steps between checkpoints
    :return: what a resumed training has to have in common with it, as far as it is plain data
    """
    env = model.get_env()
    assert env is not None
    arguments = {name: value for name, value in hyperparameters(model).items() if name not in _MAY_CHANGE | {"device"}}
    return {
        "algorithm": type(model).__name__,
        **arguments,
        **{f"env.{name}": value for name, value in describe_env(env).items()},
        "total_timesteps": model._total_timesteps,
        "checkpoint_freq": checkpoint_freq,
    }
