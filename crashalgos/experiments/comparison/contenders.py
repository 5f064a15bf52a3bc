"""What a comparison compares: algorithms, and named variants of them with other hyperparameters."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crashalgos.experiments.run.options import read_flow_yaml
from crashalgos.experiments.run.registry import ALGORITHMS, find_algorithm
from crashalgos.experiments.run.runner import RunConfig
from crashalgos.experiments.run.settings import Settings, load_settings, merged

_VARIANT = re.compile(r"(?P<name>[\w.-]+)=(?P<algo>[\w.-]+)(?P<overrides>\{.*\})?", re.DOTALL)


@dataclass(frozen=True)
class Entrant:
    """
    :param name: its key in files, and the beginning of its folders' names
    :param algo: the algorithm's name in the registry
    :param overrides: what differs from the tuned settings, in RL Zoo's format
    :param first_seed: its seeds are ``first_seed``, ``first_seed + 1``, …
    """

    name: str
    algo: str
    overrides: dict[str, Any] = field(default_factory=dict)
    first_seed: int = 0

    @property
    def label(self) -> str:
        """What figures and tables call it."""
        label = find_algorithm(self.algo).label
        return label if self.name == self.algo else f"{self.name} ({label})"


def read_contenders(texts: Iterable[str]) -> list[Entrant]:
    """
    :param texts: of each ``algo``, or ``name=algo{hyperparameter: value, …}`` with a mapping in YAML; ``first_seed`` in it is
        the contender's first seed
    :return: the contenders, each once
    :raises ValueError: for an unknown algorithm, a text that cannot be read, or one name for two
    """
    contenders: dict[str, Entrant] = {}
    for text in texts:
        contender = read_contender(text)
        if contenders.setdefault(contender.name, contender) != contender:
            raise ValueError(f"two contenders are called {contender.name!r}: give each a name of its own")
    if not contenders:
        raise ValueError("nothing to compare: give at least one algorithm")
    return list(contenders.values())


def read_contender(text: str) -> Entrant:
    """
    :param text: one of ``read_contenders``
    :return: the contender
    :raises ValueError: for an unknown algorithm, or a text that cannot be read
    """
    if "=" not in text:
        find_algorithm(text)
        return Entrant(text, text)
    match = _VARIANT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"a variant must be NAME=ALGO{{HYPERPARAMETER: VALUE, …}} in YAML, got {text!r}")
    name, algo = match["name"], match["algo"]
    find_algorithm(algo)
    if name in ALGORITHMS and name != algo:
        raise ValueError(f"the variant {name!r} of {algo} has the name of an algorithm: give it another")
    overrides = read_flow_yaml(name, match["overrides"] or "{}")
    first_seed = overrides.pop("first_seed", 0)
    if not isinstance(first_seed, int) or isinstance(first_seed, bool) or first_seed < 0:
        raise ValueError(f"`first_seed` of {name} must be a whole number of at least 0, got {first_seed!r}")
    if "n_timesteps" in overrides:
        raise ValueError(f"`n_timesteps` of {name} is not its own: all contenders train for the same number of steps")
    return Entrant(name, algo, overrides, first_seed)


def settings_for(contender: Entrant, env: str, n_timesteps: int) -> Settings:
    """
    :param contender: who
    :param env: the environment's id
    :param n_timesteps: environment steps, in place of the tuned settings' own
    :return: the tuned settings with what differs
    :raises ValueError: if the algorithm has no such hyperparameter
    """
    settings = merged(contender.algo, load_settings(contender.algo, env), contender.overrides, contender.name)
    return replace(settings, n_timesteps=n_timesteps)


def cell(contender: Entrant, env: str, n_timesteps: int, seeds: int, common: Mapping[str, Any]) -> list[RunConfig]:
    """
    :param contender: who
    :param env: where
    :param n_timesteps: for how long
    :param seeds: how many
    :param common: what all runs have in common
    :return: the runs, one a seed, whose folders are yet to be placed
    """
    settings = settings_for(contender, env, n_timesteps)
    variant = "" if contender.name == contender.algo else contender.name
    numbers = range(contender.first_seed, contender.first_seed + seeds)
    return [RunConfig(contender.algo, env, settings, Path(), variant=variant, seed=seed, **common) for seed in numbers]


def settings_of(configs: Collection[RunConfig]) -> dict[str, dict[str, dict[str, Any]]]:
    """
    :param configs: runs
    :return: their settings: a mapping for each contender, in it one for each environment, in RL Zoo's format
    """
    settings: dict[str, dict[str, dict[str, Any]]] = {}
    for config in configs:
        settings.setdefault(config.contender, {})[config.env] = config.settings.as_entry()
    return settings


def folder_name(envs: Sequence[str], digest: str) -> str:
    """
    :param envs: the environments
    :param digest: of all that the comparison is
    :return: what its folder is called
    """
    first = envs[0].replace("/", "-").replace(":", "-")
    return f"{first}{f'-and-{len(envs) - 1}-more' if len(envs) > 1 else ''}-{digest}"
