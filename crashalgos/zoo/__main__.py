"""RL Zoo's command lines with the three algorithms: ``python -m crashalgos.zoo train --algo crash_ppo --env CartPole-v1``."""

import argparse
import runpy
import sys
from collections.abc import Sequence

from crashalgos.experiments.grid.wandb_runs import choose_wandb_mode
from crashalgos.experiments.run.registry import nearest
from crashalgos.experiments.run.settings import read_yaml
from crashalgos.zoo.registration import NAMES, register, settings_file

PROGRAM = "python -m crashalgos.zoo"

# The Zoo's modules that look algorithms up by name and run nothing else that would have to know them.
COMMANDS = {
    "train": "train an agent, or search hyperparameters (-optimize)",
    "enjoy": "watch a trained agent",
    "record_video": "film a trained agent",
}


def main(argv: Sequence[str] | None = None) -> int:
    """
    Hand over to one of RL Zoo's command lines; ``sys.argv`` becomes its.

    :param argv: the command line; by default the process's own
    :return: the exit status: 2 for a mistake that the Zoo would not explain
    """
    command, *arguments = list(sys.argv[1:] if argv is None else argv) or [""]
    if command in ("-h", "--help"):
        print(usage())
        return 0
    given = read(arguments)
    try:
        check_command(command)
        register()
        defaults = missing_defaults(command, given)
    except ModuleNotFoundError as error:
        return refuse(f'{error.name} is not installed: pip install "crashalgos[zoo]"')
    except ValueError as error:
        return refuse(str(error))
    if given.track and command == "train":
        choose_wandb_mode()  # the Zoo would prompt, wait, or end with W&B's error
    # Of an option that is given twice the Zoo takes the last.
    sys.argv = [f"{PROGRAM} {command}", *defaults, *arguments]
    runpy.run_module(f"rl_zoo3.{command}", run_name="__main__")
    return 0


def usage() -> str:
    """:return: what ``--help`` prints"""
    commands = [f"  {name:14}{what}" for name, what in COMMANDS.items()]
    algorithms = f"RL Zoo's command lines; --algo may also be {', '.join(NAMES)}."
    return "\n".join([f"usage: {PROGRAM} COMMAND [--help] …", "", algorithms, "", "commands:", *commands])


def refuse(reason: str) -> int:
    """
    :param reason: what is wrong with the command line
    :return: the exit status
    """
    print(f"{PROGRAM}: error: {reason}", file=sys.stderr)
    return 2


def check_command(command: str) -> None:
    """
    :param command: the first word of the command line, empty if there is none
    :raises ValueError: if the Zoo has no such command, or none that knows the algorithms
    """
    if command not in COMMANDS:
        what = f"unknown command {command!r}{nearest(command, COMMANDS)}" if command else "a command is missing"
        raise ValueError(f"{what} (known: {', '.join(COMMANDS)})")


def read(arguments: Sequence[str]) -> argparse.Namespace:
    """
    :param arguments: a command's arguments
    :return: those that matter here; what is wrong with them is for the Zoo to report
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--algo", nargs="?")
    parser.add_argument("--env", nargs="?", default="CartPole-v1")
    parser.add_argument("-conf", "--conf-file", nargs="?")
    parser.add_argument("--track", action="store_true")
    return parser.parse_known_args(arguments)[0]


def missing_defaults(command: str, given: argparse.Namespace) -> list[str]:
    """
    The Zoo has tuned settings and pretrained agents of its own algorithms alone.

    :param command: one of the commands
    :param given: its arguments
    :return: options for one of the three algorithms: its tuned settings; agents are where ``train`` puts them
    :raises ValueError: if nothing is tuned for the environment, saying what to do
    """
    if given.algo not in NAMES:
        return []
    if command != "train":
        return ["--folder", "logs"]
    if given.conf_file is None:
        check_tuned(given.algo, given.env)
    return ["--conf-file", str(settings_file(given.algo))]


def check_tuned(zoo_name: str, env_id: str) -> None:
    """
    :param zoo_name: one of the three algorithms
    :param env_id: the environment's id
    :raises ValueError: if the algorithm's file has no settings for it, saying what to do
    """
    tuned = read_yaml(settings_file(zoo_name))
    if env_id not in tuned:
        raise ValueError(
            f"nothing is tuned for {zoo_name} on {env_id!r}{nearest(env_id, tuned)} (tuned: {', '.join(tuned)}); "
            f"to train with the defaults write '{env_id}: {{n_timesteps: 100000, policy: MlpPolicy}}' to a file, and give it "
            "with --conf-file FILE.yml"
        )


if __name__ == "__main__":
    sys.exit(main())
