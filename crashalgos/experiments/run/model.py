"""The model of a run and its environments: made, saved, closed."""

from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from crashalgos.common.files import replacing
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.folder import NORMALIZATION_FILE
from crashalgos.experiments.run.registry import algorithm_class
from crashalgos.experiments.run.settings import constructor_arguments
from crashalgos.resume import RenewableVecEnv


def make_model(config: RunConfig) -> BaseAlgorithm:
    """
    Makes the untrained model with its environments.

    :param config: the run's configuration
    :return: the model
    """
    settings = config.settings
    env = make_env(config, n_envs=settings.n_envs, seed=config.seed, training=True)
    arguments = constructor_arguments(settings.hyperparameters)
    try:
        return algorithm_class(config.algo)(
            settings.policy,
            env,
            seed=config.seed,
            verbose=config.verbose,
            device=config.device,
            **arguments,
        )
    except BaseException:
        env.close()
        raise


def make_env(config: RunConfig, n_envs: int, seed: int, training: bool) -> VecEnv:
    """
    Makes copies of the environment, with Monitor, and with VecNormalize if the settings say so.

    :param config: the run's configuration
    :param n_envs: number of copies
    :param seed: seed of the first copy
    :param training: whether VecNormalize updates its statistics
    :return: the vectorized environment
    """
    env = make_vec_env(config.env, n_envs=n_envs, seed=seed, vec_env_cls=RenewableVecEnv)
    normalize = config.settings.normalize
    if normalize is False:
        return env
    arguments = {} if normalize is True else dict(normalize)
    if "gamma" in config.settings.hyperparameters:
        arguments.setdefault("gamma", config.settings.hyperparameters["gamma"])
    return VecNormalize(env, training=training, **arguments)


def save_model(model: BaseAlgorithm, folder: Path, name: str) -> None:
    """
    Saves the model, and the statistics of VecNormalize beside it.

    :param model: the model
    :param folder: the folder; it is made if needed
    :param name: the model's file name
    """
    folder.mkdir(exist_ok=True)
    with replacing(folder / name) as temporary:
        model.save(temporary)
    normalization = model.get_vec_normalize_env()
    if normalization is not None:
        with replacing(folder / NORMALIZATION_FILE) as temporary:
            normalization.save(str(temporary))


def close_envs(model: BaseAlgorithm) -> None:
    """
    Closes the model's environments.

    :param model: the model
    """
    env = model.get_env()
    if env is not None:
        env.close()
