"""Checks of a run before it starts, so that a mistake shows before any work."""

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from crashalgos.common.checks import check_count
from crashalgos.experiments.run.callbacks import make_tracking
from crashalgos.experiments.run.config import MAY_CHANGE, RunConfig
from crashalgos.experiments.run.folder import check_same_config, make_folder
from crashalgos.experiments.run.model import close_envs, make_model
from crashalgos.experiments.run.registry import algorithm_class, check_environment
from crashalgos.experiments.run.settings import check_hyperparameter_names


class NotApplicable(ValueError):
    """The algorithm cannot act in the environment's action space."""


def check(config: RunConfig) -> None:
    """
    Checks a configuration: its values, and that environment, model and W&B callback can be made.

    :param config: the run's configuration
    :raises NotApplicable: if the algorithm cannot act in the environment
    :raises ValueError: for an unknown name or an impossible value
    """
    _check_counts(config)
    check_hyperparameter_names(algorithm_class(config.algo), config.settings.hyperparameters)
    check_environment(config.env)
    _check_model(config)
    _check_tracking(config)


def check_folder(config: RunConfig) -> None:
    """
    Makes the run's folder and checks that the run can write there.

    :param config: the run's configuration
    :raises ValueError: if nothing can be written there, or if it holds something else
    """
    make_folder(config.folder)
    check_same_config(config.folder, config.as_dict(), MAY_CHANGE)


def untuned_note(configs: Iterable[RunConfig]) -> str:
    """
    Names the runs that use the class's defaults, because nothing is tuned for their environment.

    :param configs: the runs' configurations
    :return: one line of text; empty if all runs have tuned settings
    """
    names = dict.fromkeys(f"{config.contender} on {config.env}" for config in configs if not config.settings.tuned)
    return f"class defaults (untuned): {', '.join(names)}" if names else ""


def _check_counts(config: RunConfig) -> None:
    check_count("seed", config.seed, low=0)
    for name in ("n_updates", "eval_freq", "checkpoint_freq", "threads"):
        check_count(name, getattr(config, name), low=0)
    check_count("eval_episodes", config.eval_episodes)
    check_count("n_timesteps", config.settings.n_timesteps)
    check_count("n_envs", config.settings.n_envs)


def _check_model(config: RunConfig) -> None:
    """Makes the model once; what a constructor raises becomes a ValueError that names algorithm and environment."""
    place = f"{config.contender} on {config.env}"
    try:
        close_envs(make_model(replace(config, verbose=0)))
    except ValueError:
        raise
    except AssertionError as error:
        kind = NotApplicable if str(error).startswith("The algorithm only supports") else ValueError
        raise kind(f"{place}: {error}") from error
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{place}: {error}") from error
    except Exception as error:
        # Messages of other errors say little without the error's type.
        raise ValueError(f"{place}: {type(error).__name__}: {error}") from error


def _check_tracking(config: RunConfig) -> None:
    if config.video_freq is not None and not config.track:
        raise ValueError(f"`video_freq` must be None for a run that W&B does not track, got {config.video_freq!r}")
    if config.track:
        try:
            with tempfile.TemporaryDirectory() as temporary:
                make_tracking(replace(config, folder=Path(temporary)))
        except ImportError as error:  # a package for videos is missing
            raise ValueError(str(error)) from error
