"""Records a video of one episode of a trained model."""

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

#: The most steps of a recorded episode
MAX_STEPS = 5_000


def record_episode(model: BaseAlgorithm, video_env: str | Callable[[], gym.Env], folder: Path) -> Path:
    """
    Records one deterministic episode, which is cut after ``MAX_STEPS`` steps.

    :param model: the trained model
    :param video_env: the environment's id, or a function that makes it with ``render_mode="rgb_array"``
    :param folder: the video's folder
    :return: the path of the MP4 file
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
        recorder.close()  # writes the file if the episode was cut
    return next(folder.glob("evaluation*.mp4"))


def wrap_like(training_env: VecEnv | None, venv: VecEnv) -> VecEnv:
    """
    Wraps an environment so that its observations are those of the training environment.

    :param training_env: the training environment
    :param venv: an environment without wrappers
    :return: the environment with the training environment's frame stacks, transpositions and normalisation; the statistics of
        the normalisation no longer change
    """
    wrappers = []
    while isinstance(training_env, VecEnvWrapper):
        wrappers.append(training_env)
        training_env = training_env.venv
    for wrapper in reversed(wrappers):
        if isinstance(wrapper, VecNormalize):
            frozen = copy.copy(wrapper)  # the copy shares the statistics and has no environment yet
            frozen.training = False
            frozen.set_venv(venv)
            venv = frozen
        elif isinstance(wrapper, VecFrameStack):
            venv = VecFrameStack(venv, wrapper.stacked_obs.n_stack, _channels_order(wrapper.stacked_obs))
        elif isinstance(wrapper, VecTransposeImage):
            venv = VecTransposeImage(venv, skip=wrapper.skip)
    return venv


def _channels_order(stack: StackedObservations) -> str | dict[str, str]:
    by_key = getattr(stack, "sub_stacked_observations", None)  # only for a Dict space
    if by_key is not None:
        return {key: "first" if one.channels_first else "last" for key, one in by_key.items()}
    return "first" if stack.channels_first else "last"
