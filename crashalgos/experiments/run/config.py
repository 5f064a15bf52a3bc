"""The configuration of a run."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crashalgos.experiments.run.settings import Settings

#: The fields of a configuration that may change between a run and its resume: its results do not depend on them.
MAY_CHANGE = frozenset({"folder", "track", "project", "group", "job_type", "tags", "video_freq", "verbose", "progress_bar"})


@dataclass
class RunConfig:
    """
    All that a run depends on. ``scripts/train.py`` has an option for each field that a command line can give.

    :param algo: The algorithm: reinforce, baseline-pg, ppo; or a peer: sb3-ppo, sb3-a2c, trpo, ars.
    :param env: The environment's id.
    :param settings: Environment steps, copies of the environment, policy and hyperparameters.
    :param folder: The run's own folder: config.json, status.json, progress.csv, evaluations.csv, model.zip; with normalization
        vec_normalize.pkl, with W&B wandb/. In best/ is the model of the best evaluation; until the run ends there is
        checkpoint.pt.
    :param variant: The name of the algorithm with these settings. By default the algorithm's name.
    :param seed: Seed of the model, its environments and its evaluation.
    :param n_updates: The run ends after this many updates or after settings.n_timesteps, whichever comes first. 0: no limit.
    :param eval_freq: Environment steps between evaluations, in an environment of its own. 0: no evaluation.
    :param eval_episodes: Episodes of one evaluation.
    :param checkpoint_freq: Environment steps between checkpoints. A run that was interrupted resumes from the last one when it
        is started again in the same folder. Each checkpoint restarts the environments, so choose many times an episode's
        length. 0: no checkpoints.
    :param threads: PyTorch's threads: small networks are fastest with one. 0: PyTorch's own choice.
    :param device: PyTorch's device: small networks are fastest on the CPU.
    :param track: Whether Weights & Biases tracks the run: online with an API key, offline without.
    :param project: W&B's project.
    :param group: W&B's group. By default one for the algorithm in the environment, for all seeds.
    :param job_type: W&B's job type.
    :param tags: W&B's tags, besides algorithm and environment.
    :param video_freq: Environment steps between episodes that are filmed for W&B, with one more at the end. 0: only that one.
        None: no videos.
    :param verbose: 1 prints each update's figures, 0 does not.
    :param progress_bar: Whether to show a progress bar.
    """

    algo: str
    env: str
    settings: Settings
    folder: Path
    variant: str = ""
    seed: int = 0
    n_updates: int = 0
    eval_freq: int = 5_000
    eval_episodes: int = 10
    checkpoint_freq: int = 25_000
    threads: int = 1
    device: str = "cpu"
    track: bool = True
    project: str = "crashalgos"
    group: str = ""
    job_type: str = "train"
    tags: tuple[str, ...] = ()
    video_freq: int | None = None
    verbose: int = 0
    progress_bar: bool = False

    @property
    def contender(self) -> str:
        """The name of the algorithm with these settings."""
        return self.variant or self.algo

    @property
    def name(self) -> str:
        """The run's name; it can be a folder's name."""
        return _without_separators(f"{self.contender}-{self.env}-seed{self.seed}")

    @property
    def wandb_group(self) -> str:
        """W&B's group of the run."""
        return self.group or _without_separators(f"{self.contender}-{self.env}")

    @property
    def size(self) -> int:
        """The length of the run: in updates if ``n_updates`` is set, otherwise in environment steps."""
        return self.n_updates or self.settings.n_timesteps

    def as_dict(self) -> dict[str, Any]:
        """
        Gives the configuration as plain data, for ``config.json``.

        :return: a value for each field
        """
        return asdict(self) | {"folder": str(self.folder), "tags": list(self.tags)}


def _without_separators(name: str) -> str:
    return name.replace("/", "-").replace(":", "-")
