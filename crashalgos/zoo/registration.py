"""Registers our algorithms in RL Zoo. ``rl_zoo3`` is imported when they are registered."""

from pathlib import Path

from crashalgos.experiments.run.registry import algorithm_class, find_algorithm
from crashalgos.experiments.run.settings import HYPERPARAMS
from crashalgos.zoo.samplers import hyperparameters, sample_baseline_pg, sample_reinforce

#: Our algorithms' names in the Zoo → in our registry. The Zoo's `ppo` remains SB3's.
NAMES = {"crash_reinforce": "reinforce", "crash_baseline_pg": "baseline-pg", "crash_ppo": "ppo"}


def register() -> None:
    """
    Registers ``crash_reinforce``, ``crash_baseline_pg`` and ``crash_ppo`` in RL Zoo, for this process.

    :raises ModuleNotFoundError: if the extra ``crashalgos[zoo]`` is not installed
    """
    from rl_zoo3 import ALGOS
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    for zoo_name, name in NAMES.items():
        ALGOS[zoo_name] = algorithm_class(name)
    HYPERPARAMS_SAMPLER["crash_reinforce"] = sample_reinforce
    HYPERPARAMS_SAMPLER["crash_baseline_pg"] = sample_baseline_pg
    HYPERPARAMS_SAMPLER["crash_ppo"] = HYPERPARAMS_SAMPLER["ppo"]
    HYPERPARAMS_CONVERTER["crash_reinforce"] = hyperparameters
    HYPERPARAMS_CONVERTER["crash_baseline_pg"] = hyperparameters
    HYPERPARAMS_CONVERTER["crash_ppo"] = HYPERPARAMS_CONVERTER["ppo"]


def settings_file(zoo_name: str) -> Path:
    """
    Finds the tuned settings of one of our algorithms.

    :param zoo_name: a name that :func:`register` registers
    :return: a YAML file with one mapping for each environment, for the Zoo's option ``--conf-file``
    :raises ValueError: for any other name
    """
    if zoo_name not in NAMES:
        raise ValueError(f"`zoo_name` must be one of {', '.join(NAMES)}, got {zoo_name!r}")
    return HYPERPARAMS / f"{find_algorithm(NAMES[zoo_name]).settings}.yml"
