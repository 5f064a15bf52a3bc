"""One episode of a trained model on film."""

import copy
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import RecordVideo
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

MAX_STEPS = 5_000


def record_episode(model: BaseAlgorithm, video_env: str | Callable[[], gym.Env], folder: Path) -> Path:
    """
    Record one deterministic episode, cut after ``MAX_STEPS`` steps.

    :param model: the trained model
    :param video_env: id of an environment, or a function that makes one with ``render_mode="rgb_array"``
    :param folder: where to put the video
    :return: path of the mp4
    """

    def make_env() -> gym.Env:
        env = gym.make(video_env, render_mode="rgb_array") if isinstance(video_env, str) else video_env()
        return RecordVideo(env, str(folder), episode_trigger=lambda episode: episode == 0, name_prefix="evaluation")

    recorder = DummyVecEnv([make_env])
    try:
        venv = wrap_like(model.get_env(), recorder)
        observation = venv.reset()
        state, start = None, np.ones(1, dtype=bool)
        for _ in range(MAX_STEPS):
            action, state = model.predict(observation, state=state, episode_start=start, deterministic=True)  # type: ignore[arg-type]
            observation, _, start, _ = venv.step(action)
            if start[0]:
                break
    finally:
        recorder.close()  # writes the file, when the episode was cut
    return next(folder.glob("evaluation*.mp4"))


def wrap_like(training_env: VecEnv | None, venv: VecEnv) -> VecEnv:
    """
    Wrap an environment as the training environment is wrapped, in so far as the observations depend on it.

    :param training_env: the training environment
    :param venv: a bare environment
    :return: the environment with the frame stacks, transpositions and (frozen) normalisation of the training environment
    """
    wrappers = []
    while isinstance(training_env, VecEnvWrapper):
        wrappers.append(training_env)
        training_env = training_env.venv
    for wrapper in reversed(wrappers):
        if isinstance(wrapper, VecNormalize):
            frozen = copy.copy(wrapper)  # shares the statistics; a copy of a VecNormalize has no environment yet
            frozen.training = False
            frozen.set_venv(venv)
            venv = frozen
        elif isinstance(wrapper, VecFrameStack):
            venv = VecFrameStack(venv, wrapper.stacked_obs.n_stack, _channels_order(wrapper.stacked_obs))
        elif isinstance(wrapper, VecTransposeImage):
            venv = VecTransposeImage(venv, skip=wrapper.skip)
    return venv


def _channels_order(stack: StackedObservations) -> str | dict[str, str]:
    parts = getattr(stack, "sub_stacked_observations", None)  # one for each key of a Dict space
    if parts is not None:
        return {key: "first" if part.channels_first else "last" for key, part in parts.items()}
    return "first" if stack.channels_first else "last"
