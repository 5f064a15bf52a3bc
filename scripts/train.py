"""Train one algorithm in one environment: ``python scripts/train.py --algo ppo --env CartPole-v1 --seed 1``."""

import argparse
import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from crashalgos.common.returns import gamma_from_horizon
from crashalgos.experiments.run.folder import FolderInUse
from crashalgos.experiments.run.options import given_hyperparameters, hyperparameter_options
from crashalgos.experiments.run.registry import ALGORITHMS, algorithm_class
from crashalgos.experiments.run.runner import CHECKPOINT_FILE, MODEL_FILE, RunConfig, check, check_folder, run, untuned
from crashalgos.experiments.run.settings import Settings, constructor_parameters, load_settings
from crashalgos.experiments.run.signals import Terminated, interrupt_on_sigterm
from crashalgos.resume import CheckpointError

ALGO, ENV = "ppo", "CartPole-v1"


@dataclass(kw_only=True)
class TrainOptions:
    """What a run has beside the hyperparameters of its algorithm."""

    algo: str
    """reinforce, baseline-pg, ppo; or a peer: sb3-ppo, sb3-a2c, trpo, ars. The options below are this algorithm's."""
    env: str
    """The environment's id. The defaults below are those tuned for it, or else the algorithm's own."""
    seed: int = 0
    """Of the model, its environments and its evaluation."""
    n_timesteps: int
    """How many environment steps to train for."""
    n_envs: int
    """How many copies of the environment run side by side."""
    normalize: bool
    """Whether VecNormalize scales observations and rewards."""
    policy: str
    """The policy's name."""
    horizon: float | None = None
    """The slides' way to give gamma: γ = 1 − 1/h, inf is γ = 1. Instead of --gamma."""
    output: Path | None = None
    """The run's folder: a run that has finished there is read, one that has not is resumed. By default one below
    results/train/ that carries the time, or WANDB_RUN_ID where that is set."""
    eval_freq: int = 5_000
    """Environment steps between evaluations, in an environment of its own; 0: none."""
    eval_episodes: int = 10
    """Episodes of one evaluation."""
    checkpoint_freq: int = 25_000
    """Environment steps between checkpoints, from which the run resumes when it is started again with the same --output. The
    environments start afresh there, so it is to be long beside an episode. 0: none."""
    threads: int = 1
    """PyTorch's threads: small networks are fastest with one. 0: as many as PyTorch takes."""
    device: str = "cpu"
    """PyTorch's device: small networks are fastest on the CPU."""
    track: bool = True
    """Whether Weights & Biases tracks the run: online with an API key, offline without."""
    project: str = "crashalgos"
    """W&B's project."""
    group: str = ""
    """W&B's group. By default one for the algorithm in the environment, whatever the seed."""
    job_type: str = "train"
    """W&B's job type."""
    tags: tuple[str, ...] = ()
    """W&B's tags, besides algorithm and environment."""
    video_freq: int | None = None
    """Environment steps between episodes that are filmed for W&B, with one more at the end; 0: only that one; None: none."""
    verbose: int = 0
    """1 prints each update's figures, 0 does not."""
    progress_bar: bool = True
    """Whether to show a bar."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: the command line; by default the process's own
    :return: the exit status: 2 for a mistake on the command line
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        config = read_arguments(arguments)
        check(config)
        check_folder(config)
    except ValueError as error:
        print(f"train.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if untuned([config]):
        print(untuned([config]))
    interrupt_on_sigterm()
    try:
        result = run(config)
    except (FolderInUse, CheckpointError) as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"interrupted{what_is_left(config, arguments)}", file=sys.stderr, flush=True)
        if isinstance(interrupt, Terminated):
            interrupt.end_process()
        return 130
    except OSError as error:  # a full disk, say
        print(f"train.py: error: {error}{what_is_left(config, arguments)}", file=sys.stderr)
        return 1
    if result.evaluations:
        print(f"return of the last evaluation: {result.final_return:.1f}")
    print(f"{result.num_timesteps} steps in {result.seconds:.1f} s; everything is in {config.folder}")
    return 0


def what_is_left(config: RunConfig, arguments: Sequence[str]) -> str:
    """
    :param config: a run that has ended before its end
    :param arguments: the command line
    :return: what there is of it, and how it goes on
    """
    saved, resumes = (config.folder / MODEL_FILE).exists(), (config.folder / CHECKPOINT_FILE).exists()
    model = f"; the model as it was then is in {config.folder}" if saved else " before there was a model"
    again = shlex.join(["python", "scripts/train.py", *without_output(arguments), "--output", str(config.folder)])
    how = "continue from the last checkpoint" if resumes else "start again, in the place of this one"
    return f"{model}; to {how}: {again}"


def without_output(arguments: Sequence[str]) -> list[str]:
    """
    :param arguments: the command line
    :return: the same without the option ``--output``
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--output")
    return parser.parse_known_args(arguments)[1]


def read_arguments(arguments: Sequence[str]) -> RunConfig:
    """
    :param arguments: the command line
    :return: the run it asks for
    :raises ValueError: if it asks for what there is not
    """
    algo, env = read_names(arguments)
    algorithm = algorithm_class(algo)
    tuned = load_settings(algo, env)
    options = parse(arguments, algo, env, tuned)

    hyperparameters = given_hyperparameters(options.hyperparameters, algorithm, tuned.hyperparameters)
    if options.horizon is not None:
        if "gamma" not in constructor_parameters(algorithm):
            raise ValueError(f"{algo} has no discount factor, so --horizon says nothing")
        if any(argument.split("=")[0] == "--gamma" for argument in arguments):
            raise ValueError("--gamma and --horizon say the same thing twice: give one of them")
        hyperparameters["gamma"] = gamma_from_horizon(options.horizon)

    settings = Settings(
        n_timesteps=options.n_timesteps,
        n_envs=options.n_envs,
        policy=options.policy,
        # The tuned value may say more than yes.
        normalize=tuned.normalize if options.normalize == bool(tuned.normalize) else options.normalize,
        hyperparameters=hyperparameters,
        tuned=tuned.tuned,
    )
    config = RunConfig(
        algo=algo,
        env=env,
        settings=settings,
        folder=Path(),
        seed=options.seed,
        eval_freq=options.eval_freq,
        eval_episodes=options.eval_episodes,
        checkpoint_freq=options.checkpoint_freq,
        threads=options.threads,
        device=options.device,
        track=options.track,
        project=options.project,
        group=options.group,
        job_type=options.job_type,
        tags=options.tags,
        video_freq=options.video_freq,
        verbose=options.verbose,
        progress_bar=options.progress_bar,
    )
    # A sweep's agent names its runs; several may start in the same second.
    own = os.environ.get("WANDB_RUN_ID") or time.strftime("%Y%m%d-%H%M%S")
    config.folder = options.output or Path("results") / "train" / f"{config.name}-{own}"
    return config


def read_names(arguments: Sequence[str]) -> tuple[str, str]:
    """
    The algorithm and the environment decide which options there are and what their defaults are: they are read first.

    :param arguments: the command line
    :return: algorithm and environment
    """
    parser = argparse.ArgumentParser(prog="train.py", add_help=False, allow_abbrev=False)
    parser.add_argument("--algo", default=ALGO)
    parser.add_argument("--env", default=ENV)
    known, _ = parser.parse_known_args(arguments)
    return known.algo, known.env


def parse(arguments: Sequence[str], algo: str, env: str, tuned: Settings) -> Any:
    """
    :param arguments: the command line
    :param algo: the algorithm's name
    :param env: the environment's id
    :param tuned: the defaults
    :return: ``TrainOptions`` with the field ``hyperparameters``
    """
    hyperparameters = hyperparameter_options(algorithm_class(algo), tuned.hyperparameters)
    flat = Annotated[hyperparameters, tyro.conf.arg(name="")]  # type: ignore[valid-type]
    options = dataclasses.make_dataclass(
        "Options",
        [("hyperparameters", flat, dataclasses.field(default_factory=hyperparameters))],
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
    )
    flags = {option.name for part in (options, hyperparameters) for option in dataclasses.fields(part) if option.type is bool}
    description = (
        f"Train one algorithm in one environment. Algorithms: {', '.join(ALGORITHMS)}. A schedule is lin_<number>: it falls "
        "linearly from the number to 0. --policy-kwargs is YAML, such as '{net_arch: [64, 64], activation_fn: relu}'. "
        "A callable baseline is for Python only."
    )
    words = [as_flag(argument, flags) for argument in arguments]
    return tyro.cli(options, prog="train.py", args=words, default=default, description=description)


def as_flag(argument: str, flags: Collection[str]) -> str:
    """
    A sweep's agent writes every parameter as ``--name=value``.

    :param argument: of the command line
    :param flags: names of the options that are yes or no
    :return: ``--name`` or ``--no-name`` in the place of ``--name=true`` or ``--name=false``; anything else as it is
    """
    name, _, value = argument.removeprefix("--").replace("-", "_").partition("=")
    if argument.startswith("--") and name in flags and value.lower() in ("true", "false"):
        return f"--{'' if value.lower() == 'true' else 'no-'}{name.replace('_', '-')}"
    return argument


if __name__ == "__main__":
    sys.exit(main())
