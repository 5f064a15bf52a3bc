"""Train one algorithm in one environment: ``python scripts/train.py --algo ppo --env CartPole-v1 --seed 1``."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from crashalgos.common.returns import gamma_from_horizon
from crashalgos.experiments.run.checks import check, check_folder, untuned_note
from crashalgos.experiments.run.config import RunConfig
from crashalgos.experiments.run.folder import CHECKPOINT_FILE, MODEL_FILE, FolderInUse
from crashalgos.experiments.run.options import given_hyperparameters, hyperparameter_options
from crashalgos.experiments.run.registry import ALGORITHMS, algorithm_class
from crashalgos.experiments.run.runner import run
from crashalgos.experiments.run.settings import Settings, constructor_parameters, load_settings
from crashalgos.experiments.run.signals import Terminated, interrupt_on_sigterm
from crashalgos.resume import CheckpointError

_ALGO, _ENV = "ppo", "CartPole-v1"

_T = TypeVar("_T")
# A field of the configuration that the command line does not have.
_NoOption = Annotated[_T, tyro.conf.Fixed, tyro.conf.Suppress]


@dataclass(kw_only=True)
class TrainOptions(RunConfig):
    """
    The command line: the fields of ``RunConfig``, and options whose values become its settings and its folder.

    :param n_timesteps: Environment steps of training.
    :param n_envs: Copies of the environment, which run side by side.
    :param normalize: Whether VecNormalize scales observations and rewards.
    :param policy: The policy's name.
    :param horizon: The slides' way to give gamma: γ = 1 − 1/h, inf is γ = 1. Instead of --gamma.
    :param output: The run's folder. If it holds this run, a finished one is read and an interrupted one resumes. By default a
        new folder in results/train/, whose name has the time, or WANDB_RUN_ID if that is set.
    """

    settings: _NoOption[Settings] = field(default_factory=Settings)
    folder: _NoOption[Path] = Path()
    variant: _NoOption[str] = ""
    n_updates: _NoOption[int] = 0
    n_timesteps: int
    n_envs: int
    normalize: bool
    policy: str
    horizon: float | None = None
    output: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """
    Trains one algorithm, as the command line says.

    :param argv: the command line; by default the process's own
    :return: the exit status: 1 for a full disk, 2 for a mistake on the command line, 130 after Ctrl-C
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        config = read_arguments(arguments)
        check(config)
        check_folder(config)
    except ValueError as error:
        print(f"train.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if note := untuned_note([config]):
        print(note)
    interrupt_on_sigterm()
    try:
        result = run(config)
    except (FolderInUse, CheckpointError) as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"interrupted{_how_to_continue(config, arguments)}", file=sys.stderr, flush=True)
        if isinstance(interrupt, Terminated):
            interrupt.end_process()
        return 130
    except OSError as error:  # a full disk, say
        print(f"train.py: error: {error}{_how_to_continue(config, arguments)}", file=sys.stderr)
        return 1
    if result.evaluations:
        print(f"return of the last evaluation: {result.final_return:.1f}")
    print(f"{result.num_timesteps} steps in {result.seconds:.1f} s; everything is in {config.folder}")
    return 0


def _how_to_continue(config: RunConfig, arguments: Sequence[str]) -> str:
    """Says whether an interrupted run has a model, and which command continues it."""
    saved, resumes = (config.folder / MODEL_FILE).exists(), (config.folder / CHECKPOINT_FILE).exists()
    model = f"; the model as it was then is in {config.folder}" if saved else " before there was a model"
    again = shlex.join(["python", "scripts/train.py", *_without_output(arguments), "--output", str(config.folder)])
    how = "continue from the last checkpoint" if resumes else "start again, in the place of this one"
    return f"{model}; to {how}: {again}"


def _without_output(arguments: Sequence[str]) -> list[str]:
    """Removes the option ``--output`` from a command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--output")
    return parser.parse_known_args(arguments)[1]


def read_arguments(arguments: Sequence[str]) -> RunConfig:
    """
    Reads the configuration of a run from a command line.

    :param arguments: the command line
    :return: the run's configuration
    :raises ValueError: for an unknown name, or for options that contradict each other
    """
    algo, env = _read_names(arguments)
    tuned = load_settings(algo, env)
    options = _parse(arguments, algo, env, tuned)
    config = RunConfig(**{option.name: getattr(options, option.name) for option in fields(RunConfig)})
    config.settings = Settings(
        n_timesteps=options.n_timesteps,
        n_envs=options.n_envs,
        policy=options.policy,
        # The tuned value may be a mapping: the arguments of VecNormalize.
        normalize=tuned.normalize if options.normalize == bool(tuned.normalize) else options.normalize,
        hyperparameters=_hyperparameters(options, arguments, tuned),
        tuned=tuned.tuned,
    )
    # W&B gives each run of a sweep an id, which is unique even if several runs start in the same second.
    suffix = os.environ.get("WANDB_RUN_ID") or time.strftime("%Y%m%d-%H%M%S")
    config.folder = options.output or Path("results") / "train" / f"{config.name}-{suffix}"
    return config


def _hyperparameters(options: Any, arguments: Sequence[str], tuned: Settings) -> dict[str, Any]:
    """Gives the hyperparameters of the command line, with gamma from ``--horizon``."""
    algorithm = algorithm_class(options.algo)
    hyperparameters = given_hyperparameters(options.hyperparameters, algorithm, tuned.hyperparameters)
    if options.horizon is not None:
        if "gamma" not in constructor_parameters(algorithm):
            raise ValueError(f"{options.algo} has no discount factor, so --horizon says nothing")
        if any(argument.split("=")[0] == "--gamma" for argument in arguments):
            raise ValueError("--gamma and --horizon say the same thing twice: give one of them")
        hyperparameters["gamma"] = gamma_from_horizon(options.horizon)
    return hyperparameters


def _read_names(arguments: Sequence[str]) -> tuple[str, str]:
    """Reads the algorithm and the environment, which decide the other options and their defaults."""
    parser = argparse.ArgumentParser(prog="train.py", add_help=False, allow_abbrev=False)
    parser.add_argument("--algo", default=_ALGO)
    parser.add_argument("--env", default=_ENV)
    known, _ = parser.parse_known_args(arguments)
    return known.algo, known.env


def _parse(arguments: Sequence[str], algo: str, env: str, tuned: Settings) -> Any:
    """
    Reads all options.

    :param tuned: the defaults
    :return: ``TrainOptions`` with one more field, ``hyperparameters``
    """
    hyperparameters = hyperparameter_options(algorithm_class(algo), tuned.hyperparameters)
    flat = Annotated[hyperparameters, tyro.conf.arg(name="")]  # type: ignore[valid-type]
    options = make_dataclass(
        "Options",
        [("hyperparameters", flat, field(default_factory=hyperparameters))],
        bases=(TrainOptions,),
        kw_only=True,
    )
    default = options(
        algo=algo,
        env=env,
        n_timesteps=tuned.n_timesteps,
        n_envs=tuned.n_envs,
        normalize=bool(tuned.normalize),
        policy=tuned.policy,
        progress_bar=True,
    )
    flags = {option.name for part in (options, hyperparameters) for option in fields(part) if option.type is bool}
    description = (
        f"Train one algorithm in one environment. Algorithms: {', '.join(ALGORITHMS)}. The options are this algorithm's, "
        "with defaults tuned for the environment, or else the algorithm's own. A schedule is lin_<number>: it falls linearly "
        "from the number to 0. --policy-kwargs is YAML, such as '{net_arch: [64, 64], activation_fn: relu}'. "
        "A callable baseline is for Python only."
    )
    words = [_as_flag(argument, flags) for argument in arguments]
    return tyro.cli(options, prog="train.py", args=words, default=default, description=description)


def _as_flag(argument: str, flags: Collection[str]) -> str:
    """
    Replaces ``--name=true`` by ``--name`` and ``--name=false`` by ``--no-name``, as a sweep's agent writes all options.

    :param flags: names of the options of type bool
    """
    name, _, value = argument.removeprefix("--").replace("-", "_").partition("=")
    if argument.startswith("--") and name in flags and value.lower() in ("true", "false"):
        return f"--{'' if value.lower() == 'true' else 'no-'}{name.replace('_', '-')}"
    return argument


if __name__ == "__main__":
    sys.exit(main())
