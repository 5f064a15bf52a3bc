"""A callback that tracks a run in Weights & Biases."""

import importlib.util
import os
import shlex
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback

from crashalgos.common.checks import check_count
from crashalgos.common.metadata import run_metadata, to_plain
from crashalgos.common.random_state import preserved_random_state
from crashalgos.tracking.evaluation_video import record_episode
from crashalgos.tracking.wandb_output_format import WandbOutputFormat
from crashalgos.tracking.wandb_run import begin_run, log_folder

if TYPE_CHECKING:
    import wandb
    from stable_baselines3.common.logger import Logger

_MODES = ("online", "offline", "disabled")
_FORBIDDEN_CHARACTERS = "/\\#?%:"


class WandbCallback(BaseCallback):
    """
    Tracks ``learn`` in a Weights & Biases run: the logger's figures, the configuration and the final model.

    The figures are logged over ``global_step``. Those of the last update, which SB3 records after its last dump, are included.

    The run is online if there is an API key, and offline otherwise; nothing asks for a key. An error of W&B is reported in one
    warning and never stops training. Each ``learn`` ends its run, so that the whole run is on disk. The next
    ``learn(reset_num_timesteps=False)`` continues this run; any other ``learn`` begins a new one.

    :param project: the W&B project
    :param name: name of the run; by default W&B invents one
    :param group: group in which W&B shows the run, for example the seeds of one setting
    :param job_type: kind of the run, for example "train"
    :param tags: labels of the run
    :param config: more entries of the run's configuration; they replace the model's entries of the same name
    :param dir: folder in which W&B makes its folder ``wandb``; by default ``WANDB_DIR`` or the working directory
    :param mode: "online", "offline" or "disabled"; by default ``WANDB_MODE``, or else "online" if there is an API key
    :param run_id: id of a run that an earlier process began and this one continues
    :param save_model: whether to keep the final model, and the statistics of a ``VecNormalize``, as an artifact of type
        "model" with the alias "latest"
    :param best_model_save_path: the argument of SB3's ``EvalCallback``: the folder of its ``best_model.zip``. At the end this
        file, and a ``vec_normalize.pkl`` beside it, become another version of the artifact, with the alias "best"
    :param video_env: environment in which one deterministic episode is recorded at the end: its id, or a function that makes
        it with ``render_mode="rgb_array"``; needs the extra ``crashalgos[video]``
    :param video_freq: environment steps between episodes that are recorded during training; 0: none
    :param verbose: 1 to print in one line where the run is, 0 to print nothing
    """

    def __init__(
        self,
        project: str,
        *,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        dir: str | os.PathLike[str] | None = None,
        mode: str | None = None,
        run_id: str | None = None,
        save_model: bool = True,
        best_model_save_path: str | os.PathLike[str] | None = None,
        video_env: str | Callable[[], gym.Env] | None = None,
        video_freq: int = 0,
        verbose: int = 1,
    ):
        super().__init__(verbose)
        _check_name("project", project)
        if run_id is not None:
            _check_name("run_id", run_id)
        if isinstance(tags, str) or not all(isinstance(tag, str) and 1 <= len(tag) <= 64 for tag in tags):
            raise ValueError(f"tags={tags!r} must be a sequence of texts of 1 to 64 characters")
        if config is not None and not isinstance(config, Mapping):
            raise ValueError(f"config={config!r} must be a mapping")
        if mode is not None and mode not in _MODES:
            raise ValueError(f"mode={mode!r} must be one of {', '.join(map(repr, _MODES))} or None")
        if dir is not None:
            _check_folder(Path(dir))
        check_count("video_freq", video_freq, low=0)
        if video_env is not None:
            _check_video_env(video_env)
        elif video_freq > 0:
            raise ValueError(f"video_freq={video_freq} films nothing without a video_env")

        self.run_id = run_id  # the current or last run's id
        self.run_dir: Path | None = None  # its folder; a continued run has a folder for each part
        self.run_url: str | None = None  # its page if it is online
        self._run: wandb.Run | None = None
        self._begin_options = {
            "project": project,
            "name": name,
            "group": group,
            "job_type": job_type,
            "tags": list(tags),
        }
        self._dir = dir
        self._mode = mode
        self._user_config = {} if config is None else config
        self._save_model = save_model
        self._best_model_folder = None if best_model_save_path is None else Path(best_model_save_path)
        self._video_env = video_env
        self._video_freq = video_freq
        self._offline = False
        self._first_learn = True
        self._warned = False
        self._writer: WandbOutputFormat | None = None
        self._run_logger: Logger | None = None
        self._already_sent: dict[str, Any] = {}
        self._best_since = 0.0
        self._last_step = 0

    def _on_training_start(self) -> None:
        self.close()  # a run is still open if the last learn raised
        self._warned = False
        self.run_dir = self.run_url = None
        if (self._mode or os.environ.get("WANDB_MODE")) != "disabled":
            self._attempt("starting the run", self._begin_run)

    def _on_rollout_start(self) -> None:
        self._last_step = self.num_timesteps  # a resumed run starts at a later step

    def _on_step(self) -> bool:
        if self._video_freq > 0 and self.num_timesteps // self._video_freq > self._last_step // self._video_freq:
            self._record_video()
        self._last_step = self.num_timesteps
        return True

    def _on_training_end(self) -> None:
        if self._run is None:
            return
        self._send_pending()
        # The best model first, so that the final model has the alias "latest".
        if self._best_model_folder is not None:
            self._attempt("saving the best model", self._log_best_model)
        if self._save_model:
            self._attempt("saving the model", self._log_model)
        self._record_video()
        self._end_run()

    def close(self, exit_code: int = 1) -> None:
        """
        Ends an open run. Call it after a ``learn`` that raised, because SB3 does not tell callbacks of errors.

        :param exit_code: 0 for success; any other number marks the run as failed
        """
        if self._run is not None:
            self._end_run(exit_code)

    def state_dict(self) -> dict[str, Any]:
        """
        Gives the state with which another process continues this W&B run.

        :return: the run's id, and whether it is offline
        """
        return {"run_id": self.run_id, "offline": self._offline}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Restores the state of an earlier process, unless a run is already open.

        :param state: the result of :meth:`state_dict`
        """
        if self._run is None:
            self.run_id, self._offline = state["run_id"], state["offline"]

    def _begin_run(self) -> None:
        # A later learn continues the run if it continues the steps; the first one if another process began the run.
        continued = self.run_id is not None and (self.num_timesteps > 0 or self._first_learn)
        self._first_learn = False
        self.run_id = self.run_id if continued else None
        self._best_since = 0.0 if continued else time.time() - 1.0  # an older best model is another run's
        # An offline run stays offline: `wandb sync` then uploads each part after the one that it continues.
        mode = "offline" if continued and self._offline else self._mode
        run, error, no_key = begin_run(
            mode,
            **self._begin_options,
            config=run_metadata(self.model) | to_plain(self._user_config),
            dir=self._dir or os.environ.get("WANDB_DIR"),
            id=self.run_id,
            # Online, the server appends to the run. Offline, each part gets its own folder with the same id.
            resume="allow" if continued else None,
        )

        self._run = run
        self._last_step = self.num_timesteps
        self.run_id = run.id
        self.run_dir = Path(run.dir).parent
        self._offline = run.offline
        self.run_url = None if run.offline else run.url
        if error is not None and not no_key:
            self._warn("starting the run online", error)
        if self.verbose >= 1:
            hint = " (no API key: `wandb login` makes runs online)" if no_key else ""
            print(f"W&B run {self.run_id}: {self.run_dir if self._offline else run.url}{hint}")

        self._writer = WandbOutputFormat(run, self._attempt, self._already_sent)
        self._run_logger = self.logger
        self._run_logger.output_formats.append(self._writer)
        run.define_metric("*", step_metric="global_step")

    def _send_pending(self) -> None:
        """Sends the figures of the last update, which the logger has recorded since its last dump."""
        if self._writer is None or self._run_logger is None:
            return
        # A dump would clear the values, which others may read after `learn`.
        pending = self._run_logger.name_to_value
        self._writer.write(pending, self._run_logger.name_to_excluded, self._last_step)
        self._writer.already_sent = self._already_sent = dict(pending)

    def _end_run(self, exit_code: int = 0) -> None:
        self._send_pending()
        if self._run_logger is not None and self._writer in self._run_logger.output_formats:
            self._run_logger.output_formats.remove(self._writer)
        run, self._run, self._writer, self._run_logger = self._run, None, None, None
        if run is not None:
            self._attempt("finishing the run", lambda: run.finish(exit_code))

    def _log_best_model(self) -> None:
        assert self._best_model_folder is not None
        best = self._best_model_folder / "best_model.zip"
        if not best.is_file() or best.stat().st_mtime < self._best_since:
            return  # this run has made no evaluation
        folder = self._make_folder("best_model")
        shutil.copyfile(best, folder / "model.zip")
        normalization = self._best_model_folder / "vec_normalize.pkl"
        if normalization.is_file():
            shutil.copyfile(normalization, folder / normalization.name)
        self._log_folder(folder, "best")

    def _log_model(self) -> None:
        folder = self._make_folder("model")
        self.model.save(folder / "model.zip")
        vec_normalize = self.model.get_vec_normalize_env()
        if vec_normalize is not None:
            vec_normalize.save(str(folder / "vec_normalize.pkl"))
        self._log_folder(folder, "latest", {"global_step": self.num_timesteps})

    def _make_folder(self, name: str) -> Path:
        assert self._run is not None
        folder = Path(self._run.dir) / name
        folder.mkdir()
        return folder

    def _log_folder(self, folder: Path, alias: str, metadata: dict[str, Any] | None = None) -> None:
        assert self._run is not None
        log_folder(self._run, folder, f"model-{self._run.id}", "model", [alias], metadata)

    def _record_video(self) -> None:
        if self._run is not None and self._video_env is not None:
            self._attempt("recording the evaluation video", self._log_video)

    def _log_video(self) -> None:
        import wandb

        assert self._run is not None and self.run_dir is not None and self._video_env is not None
        with preserved_random_state(self.model):
            path = record_episode(self.model, self._video_env, self.run_dir / "videos" / str(self.num_timesteps))
        self._run.log({"eval/video": wandb.Video(str(path), format="mp4"), "global_step": self.num_timesteps})

    def _attempt(self, what: str, action: Callable[[], Any]) -> Any:
        """
        Calls W&B so that no error stops training.

        :param what: names the action in the warning
        :param action: the call
        :return: its result; ``None`` after an error
        """
        try:
            return action()
        except Exception as error:
            self._warn(what, error)
            return None

    def _warn(self, what: str, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        place = "is in the files of SB3's logger only"
        if self.run_dir is not None:
            option = "" if self._offline else "--no-skip-online "
            place = f"is in {self.run_dir}; to upload it later: wandb sync {option}{shlex.quote(str(self.run_dir))}"
        warnings.warn(
            f"W&B: {what} failed ({type(error).__name__}: {error}). The training goes on; what was tracked {place} "
            "(later errors of this run are not shown)",
            stacklevel=3,
        )


def _check_name(argument: str, name: str) -> None:
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= len(name) <= 128 or set(name) & set(_FORBIDDEN_CHARACTERS):
        raise ValueError(f"{argument}={name!r} must have 1 to 128 characters, none of them in {_FORBIDDEN_CHARACTERS!r}")


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise ValueError(f"dir={str(folder)!r} must be a folder that can be written to")


def _check_video_env(video_env: str | Callable[[], gym.Env]) -> None:
    if importlib.util.find_spec("moviepy") is None:
        raise ImportError(f"video_env={video_env!r} needs moviepy to write videos: pip install 'crashalgos[video]'")
    if isinstance(video_env, str):
        module, _, _ = video_env.rpartition(":")
        try:
            if module:
                importlib.import_module(module)
            gym.spec(video_env.removeprefix(f"{module}:"))
        except gym.error.Error as error:
            raise ValueError(f"video_env={video_env!r} must be the id of a registered environment: {error}") from error
    elif not callable(video_env):
        raise ValueError(f"video_env={video_env!r} must be the id of an environment or a function that makes one")
