"""RL Zoo's command lines with our algorithms: ``python -m crashalgos.zoo train --algo crash_ppo --env CartPole-v1``."""

import argparse
import runpy
import sys
from collections.abc import Sequence

from crashalgos.experiments.run.registry import did_you_mean
from crashalgos.experiments.run.settings import read_yaml
from crashalgos.tracking.wandb_mode import choose_wandb_mode
from crashalgos.zoo.registration import NAMES, register, settings_file

_PROGRAM = "python -m crashalgos.zoo"

# The Zoo's modules that look algorithms up by name in their own process.
_COMMANDS = {
    "train": "train an agent, or search hyperparameters (-optimize)",
    "enjoy": "watch a trained agent",
    "record_video": "film a trained agent",
}


def main(argv: Sequence[str] | None = None) -> int:
    """
    Runs one of RL Zoo's commands, with ``sys.argv`` changed to its command line.

    :param argv: the command line; by default the process's own
    :return: the exit status: 2 for a mistake that the Zoo would not explain
    """
    command, *arguments = list(sys.argv[1:] if argv is None else argv) or [""]
    if command in ("-h", "--help"):
        print(_usage())
        return 0
    given = _parse(arguments)
    try:
        _check_command(command)
        register()
        defaults = _default_options(command, given)
    except ModuleNotFoundError as error:
        return _report_mistake(f'{error.name} is not installed: pip install "crashalgos[zoo]"')
    except ValueError as error:
        return _report_mistake(str(error))
    if given.track and command == "train":
        choose_wandb_mode()  # otherwise the Zoo would ask for a key, wait, or fail with W&B's error
    # If an option is given twice, the Zoo takes the last.
    sys.argv = [f"{_PROGRAM} {command}", *defaults, *arguments]
    runpy.run_module(f"rl_zoo3.{command}", run_name="__main__")
    return 0


def _usage() -> str:
    """Gives the text that ``--help`` prints."""
    commands = [f"  {name:14}{what}" for name, what in _COMMANDS.items()]
    algorithms = f"RL Zoo's command lines; --algo may also be {', '.join(NAMES)}."
    return "\n".join([f"usage: {_PROGRAM} COMMAND [--help] …", "", algorithms, "", "commands:", *commands])


def _report_mistake(reason: str) -> int:
    """Prints what is wrong with the command line, and gives the exit status."""
    print(f"{_PROGRAM}: error: {reason}", file=sys.stderr)
    return 2


def _check_command(command: str) -> None:
    """Raises a ValueError for an unknown command, or none."""
    if command not in _COMMANDS:
        what = f"unknown command {command!r}{did_you_mean(command, _COMMANDS)}" if command else "a command is missing"
        raise ValueError(f"{what} (known: {', '.join(_COMMANDS)})")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the options that matter here. The Zoo reports mistakes in them."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--algo", nargs="?")
    parser.add_argument("--env", nargs="?", default="CartPole-v1")
    parser.add_argument("-conf", "--conf-file", nargs="?")
    parser.add_argument("--track", action="store_true")
    return parser.parse_known_args(arguments)[0]


def _default_options(command: str, given: argparse.Namespace) -> list[str]:
    """
    Chooses options that the Zoo's defaults lack for our algorithms: our tuned settings, and the folder of trained agents.

    The Zoo's defaults are tuned settings and pretrained agents of its own algorithms.
    """
    if given.algo not in NAMES:
        return []
    if command != "train":
        return ["--folder", "logs"]
    if given.conf_file is None:
        _check_tuned(given.algo, given.env)
    return ["--conf-file", str(settings_file(given.algo))]


def _check_tuned(zoo_name: str, env_id: str) -> None:
    """Raises a ValueError that says what to do if nothing is tuned for the environment."""
    tuned = read_yaml(settings_file(zoo_name))
    if env_id not in tuned:
        raise ValueError(
            f"nothing is tuned for {zoo_name} on {env_id!r}{did_you_mean(env_id, tuned)} (tuned: {', '.join(tuned)}); "
            f"to train with the defaults write '{env_id}: {{n_timesteps: 100000, policy: MlpPolicy}}' to a file, and give it "
            "with --conf-file FILE.yml"
        )


if __name__ == "__main__":
    sys.exit(main())
