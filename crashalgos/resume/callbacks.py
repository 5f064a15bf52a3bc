"""
Checkpoints, and how an interrupted run resumes from one.

A *checkpoint* is a file with the state of a run between two rollouts. The envs' state is not in it, because an env need not
be able to save its state. Instead, all envs restart at every checkpoint, from new seeds. They restart in a run that nobody
interrupts as well. So an interrupted run and an uninterrupted run see the same episodes, and end with the same weights.

In the order in which SB3 calls the callback during ``learn``:

1. ``_on_training_start``: if the file exists, read it. Check that it belongs to this run. Restore the step count and the
   state of the callbacks.
2. The first ``_on_rollout_start``: restore the rest of the state, if there is a checkpoint. Then restart the envs.
3. The first ``_on_rollout_start`` after every ``checkpoint_freq`` env steps: write the checkpoint. Then restart the envs.
"""

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

#: Attributes of ``VecNormalize`` that change during a run
_NORMALIZATION = ("obs_rms", "ret_rms", "training")
#: Attributes of the model that may differ when you resume a run
_MAY_CHANGE = {"verbose", "tensorboard_log"}
#: Attributes of the model that are not saved: the restarted envs set them, or their values are times of one process
_NOT_SAVED = _MAY_CHANGE | {"_last_obs", "_last_original_obs", "_last_episode_starts", "start_time"}


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another run."""


class RestartCallback(BaseCallback):
    """
    Restarts all envs at the first rollout after every ``checkpoint_freq`` env steps.

    The seeds follow from the model's seed and the number of the restart. It works with all of SB3's on-policy algorithms.

    :param checkpoint_freq: env steps between restarts. Choose many times the length of an episode: a restart breaks off the
        episodes in progress
    :raises ValueError: from ``learn``, if an env cannot be reset in the middle of an episode
    """

    def __init__(self, checkpoint_freq: int) -> None:
        super().__init__()
        check_count("checkpoint_freq", checkpoint_freq)
        self.checkpoint_freq = checkpoint_freq
        #: The number of the last restart
        self.number = 0
        #: The source of the restarts' seeds
        self.entropy: Any = None

    def _on_training_start(self) -> None:
        if forbids_early_resets(self.training_env):
            raise ValueError(
                "An env in Monitor(allow_early_resets=False) cannot be reset in the middle of an episode, as it is at a "
                "checkpoint: use Monitor(allow_early_resets=True)"
            )
        self.number = self.model.num_timesteps // self.checkpoint_freq
        # The model's seed, or a random number if the model has none
        self.entropy = np.random.SeedSequence(self.model.seed).entropy

    def _on_rollout_start(self) -> None:
        # SB3 calls this after `train` and before it uses the envs' observations
        number = self.model.num_timesteps // self.checkpoint_freq
        if number > self.number:
            self.number = number
            self._before_restart()
            self._restart_envs()

    def _on_step(self) -> bool:
        return True

    def _before_restart(self) -> None:
        """Hook: runs before the envs restart."""

    def _restart_envs(self) -> None:
        assert isinstance(self.model, OnPolicyAlgorithm)
        env = self.training_env
        renew(env)
        (seed,) = np.random.SeedSequence(self.entropy, spawn_key=(self.number,)).generate_state(1)
        env.seed(int(seed >> 1))  # 31 bits: env i gets the seed plus i, which must fit 32 bits
        self.model._last_obs = env.reset()  # type: ignore[assignment]
        self.model._last_episode_starts = np.ones(env.num_envs, dtype=bool)


class ResumeCallback(RestartCallback):
    """
    Makes ``learn`` resumable: it writes checkpoints to a file, and continues from this file if it exists.

    You can kill a program at any moment. Start it again, and it ends with the weights of a program that was never killed, to
    the last bit::

        model = PPO("MlpPolicy", "CartPole-v1", seed=0)
        model.learn(1_000_000, callback=ResumeCallback("ppo.checkpoint", checkpoint_freq=50_000))

    The callback writes a checkpoint at the first rollout after every ``checkpoint_freq`` env steps, after ``train``. Then all
    envs restart, from seeds that follow from the model's seed and the checkpoint's number. The restarts change the episodes.
    So the weights differ from those of a run without this callback.

    A checkpoint holds:

    - the parameters and optimizers, and the states of all random generators;
    - the counters of the model, its last episodes' statistics, and the horizon of its schedules;
    - the statistics of ``VecNormalize``;
    - the state of every callback: the result of its ``state_dict``, if it has ``state_dict`` and ``load_state_dict``;
      otherwise its attributes that are plain data;
    - the values that are recorded and not yet logged, and the content of the logger's CSV, JSON and text files.

    A checkpoint does not hold the state of the envs, of a callable baseline, or of your own wrappers. It does not hold the
    random state of an evaluation env (SB3's ``EvalCallback``) either.

    How to use it:

    - Put it first in the list of callbacks: it must run before callbacks that act on ``on_rollout_start``.
    - Use one instance and one file for one call of ``learn``.
    - The file stays when the run has finished. A program that you start again repeats the last part of the run. Delete the
      file to start from the beginning.
    - The seed of a reset must determine an env's episodes. Use :class:`RenewableVecEnv` for envs whose ``reset`` does not
      forget the past.
    - Every program that opens a log file empties it first. The logger's files get their saved content back, ``Monitor``'s
      do not.
    - Use the same number of PyTorch threads in every process. With ``compile=True`` the weights are the same only if every
      process compiles the same graphs.
    - Only read checkpoints from people you trust: a checkpoint can run code when it is read.

    :param path: the checkpoint file
    :param checkpoint_freq: env steps between checkpoints. Choose many times the length of an episode: a checkpoint breaks off
        the episodes in progress
    :raises CheckpointError: from ``learn``, if the file cannot be read or belongs to another run; the message names the
        differences
    """

    model: PolicyGradientAlgorithm

    def __init__(self, path: str | Path, checkpoint_freq: int) -> None:
        super().__init__(checkpoint_freq)
        self.path = Path(path)
        #: Rollouts of the run so far, in all its processes
        self.rollouts = 0
        self._used = False
        #: The checkpoint to resume from, until it is restored
        self._checkpoint: dict[str, Any] | None = None

    def _on_training_start(self) -> None:
        if not isinstance(self.model, PolicyGradientAlgorithm):
            raise ValueError(f"ResumeCallback is for REINFORCE, BaselinePG and PPO of crashalgos, not {type(self.model)}")
        if self._used:
            raise ValueError("A ResumeCallback serves one `learn`: make another one, with another file, for the next")
        self._used = True
        super()._on_training_start()
        self._settings = _settings_of_run(self.model, self.checkpoint_freq)
        if self.path.exists():
            self._checkpoint = self._read()
            self._restore_counters(self._checkpoint)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def _on_rollout_start(self) -> None:
        if self._checkpoint is None:
            super()._on_rollout_start()
        else:
            self._restore(self._checkpoint)
            self._checkpoint = None
            self._restart_envs()

    def _on_rollout_end(self) -> None:
        self.rollouts += 1

    def _before_restart(self) -> None:
        content = io.BytesIO()
        th.save(self._state(), content)  # into memory: PyTorch's file writer does not report a full disk
        with replacing(self.path) as temporary:
            temporary.write_bytes(content.getvalue())

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds. :meth:`_restore` is its counterpart."""
        return {
            "made_by": self._settings,
            "torch": th.__version__,
            "entropy": self.entropy,
            "seconds": (time.time_ns() - self.model.start_time) / 1e9,
            "parameters": self.model.get_parameters(),
            "random": random_state(self.model),
            "model": plain_attributes(self.model, _NOT_SAVED),
            "normalization": _normalization_state(self.model),
            "callbacks": callbacks_state(self.locals["callback"]),
            "logger": logger_state(self.logger),
        }

    def _restore_counters(self, state: dict[str, Any]) -> None:
        """
        Restores what callbacks need when they start.

        Callbacks after this one start next: ``WandbCallback`` continues its run, a progress bar its count.
        """
        self.model.num_timesteps = self.num_timesteps = state["model"]["num_timesteps"]
        # A copy: `_restore` sets the same states again, after all callbacks have started
        set_callbacks_state(self.locals["callback"], copy.deepcopy(state["callbacks"]))

    def _restore(self, state: dict[str, Any]) -> None:
        """Restores the whole state. :meth:`_state` is its counterpart."""
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
        # Last: from here to the rollout only the envs draw random numbers, as in the process that wrote the checkpoint
        set_random_state(model, state["random"])

    def _read(self) -> dict[str, Any]:
        try:
            state = th.load(self.path, map_location="cpu", weights_only=False)
            saved_settings = state["made_by"]
        except Exception as error:
            raise CheckpointError(
                f"the checkpoint {str(self.path)!r} cannot be read ({type(error).__name__}: {error}): delete it to start anew"
            ) from error
        changes = [
            f"{name} was {saved_settings.get(name)!r}, is {self._settings.get(name)!r}"
            for name in {**saved_settings, **self._settings}
            if saved_settings.get(name) != self._settings.get(name)
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

    def state_dict(self) -> dict[str, Any]:
        """
        This callback's own part of a checkpoint.

        :return: its counters
        """
        return {"n_calls": self.n_calls, "number": self.number, "rollouts": self.rollouts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Restores this callback's counters.

        :param state: the result of :meth:`state_dict`
        """
        vars(self).update(state)


def _normalization_state(model: PolicyGradientAlgorithm) -> dict[str, Any]:
    normalization = model.get_vec_normalize_env()
    return {name: getattr(normalization, name) for name in _NORMALIZATION if hasattr(normalization, name)}


def _settings_of_run(model: PolicyGradientAlgorithm, checkpoint_freq: int) -> dict[str, Any]:
    """The plain values that must be the same in every process of a run."""
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
