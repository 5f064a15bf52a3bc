"""The search spaces of REINFORCE and BaselinePG for RL Zoo's Optuna. PPO has the Zoo's own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from crashalgos.reinforce.reinforce import WEIGHTINGS

if TYPE_CHECKING:
    from optuna import Trial

_NET_ARCHS = {"linear": [], "tiny": [64], "small": [64, 64], "medium": [256, 256]}
_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


def sample_reinforce(trial: "Trial", n_actions: int, n_envs: int, additional_args: Mapping[str, Any]) -> dict[str, Any]:
    """
    Samples hyperparameters of REINFORCE.

    :param trial: Optuna's trial
    :param n_actions: not used
    :param n_envs: copies of the environment; a rollout has at least as many trajectories, so that no copy idles
    :param additional_args: not used
    :return: arguments of REINFORCE's constructor
    """
    _suggest_common(trial, n_envs)
    trial.suggest_categorical("weighting", list(WEIGHTINGS))
    trial.suggest_categorical("baseline", [None, "mean", "leave_one_out"])
    trial.suggest_categorical("normalize_weights", [False, True])
    return _record_arguments(trial)


def sample_baseline_pg(trial: "Trial", n_actions: int, n_envs: int, additional_args: Mapping[str, Any]) -> dict[str, Any]:
    """
    Samples hyperparameters of BaselinePG.

    :param trial: Optuna's trial
    :param n_actions: not used
    :param n_envs: copies of the environment; a rollout has at least as many trajectories, so that no copy idles
    :param additional_args: not used
    :return: arguments of BaselinePG's constructor
    """
    _suggest_common(trial, n_envs)
    trial.suggest_float("one_minus_gae_lambda", 1e-4, 0.1, log=True)
    trial.suggest_float("value_learning_rate", 1e-4, 1e-2, log=True)
    trial.suggest_int("n_value_epochs", 1, 20, log=True)
    trial.suggest_int("value_batch_size_pow", 5, 10)
    trial.suggest_categorical("fit_value_first", [False, True])
    trial.suggest_categorical("normalize_advantage", [False, True])
    return _record_arguments(trial)


def hyperparameters(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    Converts a trial's parameters; the Zoo calls such a function a converter.

    :param sampled_params: the parameters: ``one_minus_x`` is 1 − x, ``x_pow`` is log₂ x; networks and activations have names
    :return: arguments of the algorithm's constructor
    """
    arguments: dict[str, Any] = {}
    for name, value in sampled_params.items():
        if name.startswith("one_minus_"):
            arguments[name.removeprefix("one_minus_")] = 1 - value
        elif name.endswith("_pow"):
            arguments[name.removesuffix("_pow")] = 2**value
        else:
            arguments[name] = value
    net_arch, activation_fn = _NET_ARCHS[arguments.pop("net_arch")], _ACTIVATIONS[arguments.pop("activation_fn")]
    return arguments | {"policy_kwargs": {"net_arch": net_arch, "activation_fn": activation_fn}}


def _suggest_common(trial: "Trial", n_envs: int) -> None:
    """Suggests the parameters that both algorithms have."""
    fewest_trajectories = max(4, n_envs)
    trial.suggest_float("learning_rate", 1e-4, 5e-2, log=True)
    trial.suggest_int("n_trajectories", fewest_trajectories, 16 * fewest_trajectories, log=True)
    trial.suggest_float("one_minus_gamma", 1e-4, 0.1, log=True)
    trial.suggest_float("ent_coef", 1e-8, 0.1, log=True)
    trial.suggest_categorical("net_arch", list(_NET_ARCHS))
    trial.suggest_categorical("activation_fn", list(_ACTIVATIONS))


def _record_arguments(trial: "Trial") -> dict[str, Any]:
    """Converts the trial's parameters, and records converted values as attributes of the trial."""
    arguments = hyperparameters(trial.params)
    for name, value in arguments.items():
        if name not in trial.params and name != "policy_kwargs":
            trial.set_user_attr(name, value)
    return arguments
