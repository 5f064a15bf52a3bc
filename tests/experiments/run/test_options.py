"""The constructor's arguments as options of a command line."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from crashalgos.experiments.run.options import given_hyperparameters, hyperparameter_options, plain_type
from crashalgos.experiments.run.registry import ALGORITHMS, algorithm_class
from crashalgos.experiments.run.settings import load_settings

# A class and its arguments: a command line cannot give them.
NO_OPTION = {"rollout_buffer_class", "rollout_buffer_kwargs"}
# Options of the run, or no hyperparameters.
NOT_ASKED = {"self", "policy", "env", "seed", "verbose", "device", "tensorboard_log", "_init_setup_model"}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_hyperparameter_is_an_option_with_help(algo: str) -> None:
    algorithm = algorithm_class(algo)
    options = hyperparameter_options(algorithm, {})
    names = {field.name for field in dataclasses.fields(options)}
    assert names == set(inspect.signature(algorithm.__init__).parameters) - NO_OPTION - NOT_ASKED
    assert all(f":param {name}:" in (options.__doc__ or "") for name in names)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_untouched_options_are_the_tuned_values(algo: str) -> None:
    algorithm, tuned = algorithm_class(algo), load_settings(algo, "Pendulum-v1").hyperparameters
    options = hyperparameter_options(algorithm, tuned)()
    assert given_hyperparameters(options, algorithm, tuned) == tuned


def test_options_win_over_tuned_values_and_defaults() -> None:
    algorithm, tuned = algorithm_class("sb3-ppo"), {"gamma": 0.9, "n_steps": 32}
    options = hyperparameter_options(algorithm, tuned)(gamma=0.99, clip_range=0.3, policy_kwargs="{net_arch: [16]}")
    assert given_hyperparameters(options, algorithm, tuned) == {
        # The class's default, which differs from the tuned value
        "gamma": 0.99,
        "n_steps": 32,
        "clip_range": 0.3,
        "policy_kwargs": {"net_arch": [16]},
    }


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int, int),
        (float | Callable[[float], float], float | str),
        (str | float | Callable[[Any], Any] | None, None | float | str),
        (str | type[int], str),
        (type[int] | None, None),
        (dict[str, Any], None),
    ],
)
def test_plain_part_of_a_type(annotation: Any, expected: Any) -> None:
    assert plain_type(annotation) == expected
