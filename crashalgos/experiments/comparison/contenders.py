"""Contenders of a comparison: algorithms, and named variants of them with other hyperparameters."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.options import read_flow_yaml
from crashalgos.experiments.run.registry import ALGORITHMS, find_algorithm
from crashalgos.experiments.run.settings import Settings, load_settings, merged

_VARIANT = re.compile(r"(?P<name>[\w.-]+)=(?P<algo>[\w.-]+)(?P<overrides>\{.*\})?", re.DOTALL)


@dataclass(frozen=True)
class Contender:
    """
    An algorithm that takes part in a comparison, with its hyperparameters.

    :param name: its key in files, and the beginning of its folders' names
    :param label: its name in figures and tables
    :param algo: the algorithm's name in the registry
    :param overrides: the hyperparameters that differ from the tuned settings, in RL Zoo's format
    :param first_seed: its seeds are ``first_seed``, ``first_seed + 1``, …
    :param index: its place in the comparison, from 0; it determines the contender's style in every figure
    """

    name: str
    label: str
    algo: str
    overrides: Mapping[str, Any] = field(default_factory=dict, hash=False)
    first_seed: int = 0
    index: int = 0


def read_contenders(texts: Iterable[str]) -> list[Contender]:
    """
    Reads the contenders of a command line.

    :param texts: ``algo`` or ``name=algo{hyperparameter: value, …}`` for each contender; the braces hold a mapping in YAML,
        in which ``first_seed`` is the contender's first seed
    :return: the contenders, each once
    :raises ValueError: for an unknown algorithm, a text that cannot be read, or two contenders of one name
    """
    contenders: dict[str, Contender] = {}
    for text in texts:
        contender = _read_contender(text)
        if contenders.setdefault(contender.name, contender) != contender:
            raise ValueError(f"two contenders are called {contender.name!r}: give each a name of its own")
    if not contenders:
        raise ValueError("nothing to compare: give at least one algorithm")
    return [replace(contender, index=i) for i, contender in enumerate(contenders.values())]


def _read_contender(text: str) -> Contender:
    if "=" not in text:
        return Contender(text, find_algorithm(text).label, text)
    match = _VARIANT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"a variant must be NAME=ALGO{{HYPERPARAMETER: VALUE, …}} in YAML, got {text!r}")
    name, algo = match["name"], match["algo"]
    label = find_algorithm(algo).label
    if name in ALGORITHMS and name != algo:
        raise ValueError(f"the variant {name!r} of {algo} has the name of an algorithm: give it another")
    overrides = read_flow_yaml(name, match["overrides"] or "{}")
    first_seed = overrides.pop("first_seed", 0)
    if not isinstance(first_seed, int) or isinstance(first_seed, bool) or first_seed < 0:
        raise ValueError(f"`first_seed` of {name} must be a whole number of at least 0, got {first_seed!r}")
    if "n_timesteps" in overrides:
        raise ValueError(f"`n_timesteps` of {name} is not its own: all contenders train for the same number of steps")
    return Contender(name, label if name == algo else f"{name} ({label})", algo, overrides, first_seed)


def settings_for(contender: Contender, env: str, n_timesteps: int) -> Settings:
    """
    Returns a contender's settings in an environment.

    :param contender: the contender
    :param env: the environment's id
    :param n_timesteps: environment steps, in place of the tuned settings' own
    :return: the tuned settings with the contender's overrides
    :raises ValueError: if the algorithm has no such hyperparameter
    """
    settings = merged(contender.algo, load_settings(contender.algo, env), contender.overrides, contender.name)
    return replace(settings, n_timesteps=n_timesteps)


def runs_of(contender: Contender, env: str, n_timesteps: int, seeds: int, common: Mapping[str, Any]) -> list[RunConfig]:
    """
    Returns a contender's runs in an environment.

    :param contender: the contender
    :param env: the environment's id
    :param n_timesteps: environment steps of each run
    :param seeds: number of seeds
    :param common: the configuration's fields that all runs of the comparison share
    :return: one configuration for each seed; its folder is still empty
    """
    settings = settings_for(contender, env, n_timesteps)
    variant = "" if contender.name == contender.algo else contender.name
    numbers = range(contender.first_seed, contender.first_seed + seeds)
    return [RunConfig(contender.algo, env, settings, Path(), variant=variant, seed=seed, **common) for seed in numbers]


def settings_of(configs: Collection[RunConfig]) -> dict[str, dict[str, dict[str, Any]]]:
    """
    Collects the settings of runs.

    :param configs: the runs' configurations
    :return: for each contender, for each environment, the settings in RL Zoo's format
    """
    settings: dict[str, dict[str, dict[str, Any]]] = {}
    for config in configs:
        settings.setdefault(config.contender, {})[config.env] = config.settings.as_entry()
    return settings


def folder_name(envs: Sequence[str], digest: str) -> str:
    """
    Names a comparison's folder.

    :param envs: the environments' ids
    :param digest: digest of the comparison's configuration
    :return: the folder's name: the first environment, the number of others, the digest
    """
    first = envs[0].replace("/", "-").replace(":", "-")
    return f"{first}{f'-and-{len(envs) - 1}-more' if len(envs) > 1 else ''}-{digest}"
