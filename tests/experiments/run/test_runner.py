import csv
import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import IdentityEnvMultiBinary
from stable_baselines3.common.logger import CSVOutputFormat
from stable_baselines3.common.vec_env import VecNormalize

from crashalgos.experiments.run import evaluation
from crashalgos.experiments.run.evaluation import Clock, Evaluation, EvaluationCallback
from crashalgos.experiments.run.folder import claimed, write_json
from crashalgos.experiments.run.registry import algorithm_class
from crashalgos.experiments.run.runner import (
    NotApplicable,
    RunConfig,
    check,
    check_folder,
    finished,
    make_evaluation,
    make_model,
    make_tracking,
    run,
)
from crashalgos.experiments.run.settings import Settings, constructor_arguments, load_settings
from crashalgos.tracking import WandbCallback


def small(algo: str, folder: Path, env: str = "CartPole-v1", n_timesteps: int = 600, **changes: Any) -> RunConfig:
    settings = replace(load_settings(algo, env), n_timesteps=n_timesteps)
    return RunConfig(
        algo,
        env,
        settings,
        folder,
        **{"seed": 3, "eval_freq": 200, "eval_episodes": 2, "checkpoint_freq": 0, "track": False} | changes,
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def loaded_parameters(config: RunConfig) -> dict[str, th.Tensor]:
    return algorithm_class(config.algo).load(config.folder / "model.zip", device="cpu").policy.state_dict()


@pytest.mark.parametrize(
    ("algo", "env"),
    [
        ("reinforce", "CartPole-v1"),
        ("baseline-pg", "CartPole-v1"),
        ("ppo", "CartPole-v1"),
        ("sb3-ppo", "CartPole-v1"),
        ("trpo", "CartPole-v1"),
        ("ars", "CartPole-v1"),
        # With gSDE, normalisation and policy_kwargs
        ("sb3-a2c", "Pendulum-v1"),
    ],
)
def test_evaluation_does_not_disturb_the_training(algo: str, env: str, tmp_path: Path) -> None:
    config = small(algo, tmp_path / "run", env)
    run(config)

    venv = make_vec_env(env, n_envs=config.settings.n_envs, seed=3)
    if config.settings.normalize:
        venv = VecNormalize(venv, gamma=config.settings.hyperparameters["gamma"])
    model: BaseAlgorithm = algorithm_class(algo)(
        config.settings.policy, venv, seed=3, **constructor_arguments(config.settings.hyperparameters)
    )
    model.learn(600)
    expected, actual = model.policy.state_dict(), loaded_parameters(config)
    assert expected.keys() == actual.keys()
    assert all(th.equal(expected[name], actual[name]) for name in expected)


def test_a_runs_folder_holds_all_of_it(tmp_path: Path) -> None:
    config = small("sb3-a2c", tmp_path / "run", "Acrobot-v1", n_timesteps=500)
    told: list[int] = []
    result = run(config, on_progress=told.append)
    names = {path.name for path in config.folder.iterdir()}
    files = {"config.json", "status.json", "progress.csv", "evaluations.csv", "model.zip", "vec_normalize.pkl"}
    assert names == files | {".lock", "best"}
    assert json.loads((config.folder / "config.json").read_text()) == config.as_dict()
    status = json.loads((config.folder / "status.json").read_text())
    assert (status["state"], status["num_timesteps"], status["seconds"]) == ("finished", 560, result.seconds)
    assert status["versions"]["torch"] == th.__version__

    # The grid ends at the last step, also where the distance does not go into it.
    evaluations = rows(config.folder / "evaluations.csv")
    assert [int(row["step"]) for row in evaluations] == [0] * 4 + [200] * 4 + [400] * 4 + [500] * 4
    assert [int(row["episode"]) for row in evaluations] == [0, 1] * 8
    assert [row["mode"] for row in evaluations] == (["deterministic"] * 2 + ["stochastic"] * 2) * 4
    assert all(0 <= int(row["num_timesteps"]) - int(row["step"]) < config.settings.n_envs for row in evaluations)
    # Acrobot's raw reward is −1 a step until the goal: normalised ones would not be whole numbers.
    assert all(float(row["return"]) in (-int(row["length"]), 1 - int(row["length"])) for row in evaluations)

    assert [evaluation.step for evaluation in result.evaluations] == [0, 0, 200, 200, 400, 400, 500, 500]
    assert result.final_return == np.mean([float(row["return"]) for row in evaluations[-4:-2]])
    seconds = [float(row["seconds"]) for row in evaluations]
    assert seconds == sorted(seconds) and seconds[0] < seconds[-1] <= result.seconds
    assert result.num_timesteps == 560 and result.seconds > 0  # 7 rollouts of 16 × 5 steps
    assert told and told == sorted(told)


def test_the_policy_evaluated_at_a_step_has_learned_from_no_later_one(tmp_path: Path) -> None:
    # A rollout is 8 × 32 = 256 steps: at 256 the update is still to come, at 264 it is made.
    settings = load_settings("sb3-ppo", "CartPole-v1")
    config = small("sb3-ppo", tmp_path / "run", n_timesteps=512, eval_freq=256, eval_episodes=10)
    first, stochastic_first, at_256, stochastic_at_256, at_512, _ = (e.returns for e in run(config).evaluations)
    assert settings.n_envs * settings.hyperparameters["n_steps"] == 256
    # The same policy meets the same episodes, and draws the same actions
    assert first == at_256 != at_512
    assert stochastic_first == stochastic_at_256 != first


def test_evaluation_sees_the_observations_as_the_training_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[tuple[float, float, bool]] = []

    def evaluate(model: BaseAlgorithm, env: VecNormalize, **kwargs: Any) -> tuple[list[float], list[int]]:
        training = model.get_vec_normalize_env()
        assert training is not None and training.obs_rms is not env.obs_rms
        counts.append((training.obs_rms.count, env.obs_rms.count, env.training))
        return [0.0], [1]

    monkeypatch.setattr(evaluation, "evaluate_policy", evaluate)
    config = small("sb3-a2c", tmp_path / "run", "Acrobot-v1", n_timesteps=400)
    run(config)
    # 16 envs: reset, then 13 and 25 steps each, two modes each; running statistics start from a count of 1e-4.
    assert counts == [(n + 1e-4, n + 1e-4, False) for n in (16, 16 + 13 * 16, 16 + 25 * 16) for _ in range(2)]


def test_evaluation_leaves_what_the_training_logs_in_its_rows(tmp_path: Path) -> None:
    with_evaluation, without = small("sb3-ppo", tmp_path / "with"), small("sb3-ppo", tmp_path / "without", eval_freq=0)
    run(with_evaluation)
    run(without)
    assert not (without.folder / "evaluations.csv").exists()
    own = [row for row in rows(with_evaluation.folder / "progress.csv") if not row["eval/mean_reward"]]
    plain = rows(without.folder / "progress.csv")
    # 3 rollouts of 256 steps; the last update's figures are in a row of their own.
    assert len(own) == len(plain) == 4
    assert [row["train/n_updates"] for row in plain] == ["", "20", "40", "60"]
    for mine, other in zip(own, plain, strict=True):
        assert {name: mine[name] for name in other if not name.startswith("time/")} == {
            name: value for name, value in other.items() if not name.startswith("time/")
        }


def test_a_tracked_run_is_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    result = run(small("sb3-ppo", tmp_path / "run", n_timesteps=256, track=True))
    assert result.wandb_folder is not None and result.wandb_folder.parent == tmp_path / "run" / "wandb"
    assert len(list(result.wandb_folder.glob("*.wandb"))) == 1


def test_updates_end_a_run(tmp_path: Path) -> None:
    config = small("reinforce", tmp_path / "run", n_timesteps=10**6, n_updates=3, eval_freq=0)
    run(config)
    progress = rows(config.folder / "progress.csv")
    assert sum(row["rollout/trajectory_return_mean"] != "" for row in progress) == 3
    assert algorithm_class("reinforce").load(config.folder / "model.zip")._n_updates == 3
    assert config.size == 3


def test_an_interrupted_run_saves_its_model(tmp_path: Path) -> None:
    config = small("sb3-ppo", tmp_path / "run", n_timesteps=10**6)

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, on_progress=interrupt)
    assert loaded_parameters(config)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_full_disk_costs_no_model_and_hides_no_error(
    interrupted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CSVOutputFormat, "write", write)
    config = small("sb3-ppo", tmp_path / "run", eval_freq=0)
    expected: type[BaseException] = KeyboardInterrupt if interrupted else OSError
    with pytest.warns(UserWarning, match="OSError: .* No space left on device"), pytest.raises(expected):
        run(config, on_progress=interrupt if interrupted else None)
    assert loaded_parameters(config)


def test_a_full_disk_at_the_very_end_is_an_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: CSVOutputFormat, values: dict[str, Any], *args: Any) -> None:
        # The row of the last update's figures alone has no time of its own.
        if "time/iterations" not in values:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(CSVOutputFormat, "write", write)
    config = small("sb3-ppo", tmp_path / "run", n_timesteps=256, eval_freq=0)
    with pytest.raises(OSError, match="No space left"):
        run(config)
    assert loaded_parameters(config)


def test_a_run_that_fails_ends_its_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    open_runs: list[bool] = []
    close = WandbCallback.close

    def watched(self: WandbCallback, exit_code: int = 1) -> None:
        open_runs.append(self._run is not None)
        close(self, exit_code)

    def fail(done: int) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(WandbCallback, "close", watched)
    with pytest.raises(RuntimeError, match="no luck"):
        run(small("sb3-ppo", tmp_path / "run", n_timesteps=256, eval_freq=0, track=True), on_progress=fail)
    # The callback itself calls it before it begins a run.
    assert open_runs == [False, True]


def test_wandb_is_told_what_the_model_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    def init(self: WandbCallback, project: str, **options: Any) -> None:
        told.update(options["config"])

    monkeypatch.setattr(WandbCallback, "__init__", init)
    make_tracking(small("sb3-ppo", tmp_path))
    assert told == {
        "run": {
            "algo": "sb3-ppo",
            "variant": "",
            "env": "CartPole-v1",
            "seed": 3,
            "n_timesteps": 600,
            "n_updates": 0,
            "eval_freq": 200,
            "eval_episodes": 2,
            "checkpoint_freq": 0,
            "threads": 1,
        }
    }


def test_an_episode_that_never_ends_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "ENDLESS_TRAJECTORY_STEPS", 5)
    message = r"An evaluation episode has not ended after 5 steps .*: give the env a time limit \(.*TimeLimit"
    with pytest.raises(RuntimeError, match=message):
        run(small("sb3-ppo", tmp_path / "run"))
    # The last step allowed may be the 5th.
    monkeypatch.setitem(gym.registry, "Short-v1", replace(gym.spec("CartPole-v1"), id="Short-v1", max_episode_steps=5))
    config = small("sb3-ppo", tmp_path / "short", "Short-v1", n_timesteps=8, eval_freq=8)
    config.settings.hyperparameters["n_steps"] = 8
    config.settings.hyperparameters["batch_size"] = 8
    assert run(config).evaluations[0].lengths == [5, 5]


def test_seeds_have_evaluations_of_their_own(tmp_path: Path) -> None:
    starts = []
    for seed in (0, 1):
        config = small("sb3-ppo", tmp_path, seed=seed, eval_episodes=5)
        env = make_evaluation(config, make_model(config), Clock()).env
        starts += [tuple(state) for state in np.asarray(env.reset())]
        env.close()
    assert len(set(starts)) == 10


def test_the_device_is_the_runs(tmp_path: Path) -> None:
    model = make_model(small("sb3-ppo", tmp_path, device="meta"))
    assert model.device.type == "meta"


def weights(config: RunConfig) -> dict[str, th.Tensor]:
    return dict(loaded_parameters(config))


def same(one: dict[str, th.Tensor], other: dict[str, th.Tensor]) -> bool:
    return one.keys() == other.keys() and all(th.equal(one[name], other[name]) for name in one)


def without_times(path: Path) -> list[dict[str, str]]:
    times = ("seconds", "time/fps", "time/time_elapsed")
    return [{name: value for name, value in row.items() if name not in times} for row in rows(path)]


class Killed(BaseException):
    """A death that nothing can be done about."""


def killed_at(step: int) -> Callable[[int], None]:
    def tell(done: int) -> None:
        if done >= step:
            raise Killed

    return tell


@pytest.mark.parametrize(
    ("algo", "env"),
    [
        ("reinforce", "CartPole-v1"),
        ("baseline-pg", "CartPole-v1"),
        pytest.param("ppo", "Acrobot-v1", marks=pytest.mark.slow),
        ("ppo", "Pendulum-v1"),
        # Its envs keep something of the past when they are reset
        pytest.param("ppo", "ShortWalker-v3", marks=pytest.mark.slow),
        # Peers start from zero
        ("sb3-ppo", "CartPole-v1"),
        ("ars", "CartPole-v1"),
    ],
)
def test_an_interrupted_run_ends_as_one_that_was_not(
    algo: str, env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crashalgos.experiments.run.callbacks.ReportProgress.PERIOD", 0)
    walker = replace(gym.spec("BipedalWalker-v3"), id="ShortWalker-v3", max_episode_steps=200)
    monkeypatch.setitem(gym.registry, "ShortWalker-v3", walker)
    sizes = dict(n_timesteps=1_200, checkpoint_freq=300, eval_freq=600, eval_episodes=1)
    configs = [small(algo, tmp_path / name, env, **sizes) for name in ("whole", "broken")]  # type: ignore[arg-type]
    for config in configs:
        # Several checkpoints in 1,200 steps
        changes = {"ppo": {"n_steps": 16, "batch_size": 64}, "reinforce": {"n_trajectories": 5}}.get(algo, {})
        config.settings.hyperparameters |= changes
    whole, broken = configs
    expected = run(whole)
    for step in (200, 700, 1_000):
        with pytest.raises(Killed):
            run(broken, killed_at(step))
        assert json.loads((broken.folder / "status.json").read_text())["state"] == "interrupted"
    result = run(broken)
    assert same(weights(broken), weights(whole))
    assert without_times(broken.folder / "progress.csv") == without_times(whole.folder / "progress.csv")
    assert without_times(broken.folder / "evaluations.csv") == without_times(whole.folder / "evaluations.csv")
    assert result.num_timesteps == expected.num_timesteps
    assert {path.name for path in broken.folder.iterdir()} == {path.name for path in whole.folder.iterdir()}


def test_updates_are_counted_across_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crashalgos.experiments.run.callbacks.ReportProgress.PERIOD", 0)
    config = small("reinforce", tmp_path / "run", n_timesteps=10**6, n_updates=6, eval_freq=0, checkpoint_freq=200)
    config.settings.hyperparameters["n_trajectories"] = 8
    with pytest.raises(Killed):
        run(config, killed_at(4))
    told: list[int] = []
    run(config, told.append)
    assert algorithm_class("reinforce").load(config.folder / "model.zip")._n_updates == 6
    assert told[-1] == 6 and told[0] > 0


def test_a_finished_run_is_read_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small("sb3-ppo", tmp_path / "run", n_timesteps=256)
    first = run(config)

    def learn(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a training")

    monkeypatch.setattr(BaseAlgorithm, "learn", learn)
    assert run(replace(config, verbose=1, track=True)) == replace(first, config=replace(config, verbose=1, track=True))


def test_another_configuration_is_refused_by_name(tmp_path: Path) -> None:
    config = small("sb3-ppo", tmp_path / "run", n_timesteps=256, eval_freq=0)
    run(config)
    other = replace(config, seed=4, settings=replace(config.settings, hyperparameters={"gamma": 0.5}))
    for do in (run, check_folder, finished):
        with pytest.raises(ValueError, match="holds results of another configuration") as caught:
            do(other)
        assert "seed was 3, is 4" in str(caught.value)
        assert "settings.hyperparameters.gamma was 0.98, is 0.5" in str(caught.value)


def test_two_processes_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crashalgos.experiments.run.folder.SECONDS_TO_LET_GO", 0.1)
    config = small("sb3-ppo", tmp_path / "run", n_timesteps=256)
    with (
        claimed(config.folder, {}, ()),
        pytest.raises(ValueError, match=r"output folder '.*' is in use: another process writes to it"),
    ):
        run(config)
    assert run(config).evaluations


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    config = small("sb3-ppo", tmp_path / "run", n_timesteps=256, eval_freq=0)
    (config.folder / "wandb").mkdir(parents=True)
    write_json(config.folder / "config.json", config.as_dict())
    for name in (".tmp-model.zip", "model.zip", "evaluations.csv", "wandb/half", "output.log"):
        (config.folder / name).write_text("half")
    run(config)
    names = {path.name for path in config.folder.iterdir()}
    assert names == {".lock", "config.json", "status.json", "progress.csv", "model.zip", "output.log"}


def test_a_resumed_run_continues_its_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("crashalgos.experiments.run.callbacks.ReportProgress.PERIOD", 0)
    config = small("ppo", tmp_path / "run", n_timesteps=1_024, eval_freq=0, checkpoint_freq=300, track=True)
    with pytest.raises(Killed):
        run(config, killed_at(900))
    run(config)
    parts = sorted(path.name for path in (config.folder / "wandb").glob("offline-run-*"))
    assert len(parts) == 2 and len({part.rpartition("-")[2] for part in parts}) == 1


def test_an_action_space_that_does_not_fit_is_not_applicable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EnvSpec("MultiBinary-v0", entry_point=lambda: IdentityEnvMultiBinary(3))
    monkeypatch.setitem(gym.registry, "MultiBinary-v0", spec)
    with pytest.raises(NotApplicable, match="ars on MultiBinary-v0: The algorithm only supports"):
        check(small("ars", tmp_path / "run", "MultiBinary-v0"))
    check(small("ppo", tmp_path / "run", "MultiBinary-v0"))


def test_names_of_folders_have_no_separators() -> None:
    config = RunConfig("ppo", "ALE/Pong-v5", Settings(), Path(), seed=7)
    assert config.name == "ppo-ALE-Pong-v5-seed7"
    assert replace(config, env="module:X-v0").name == "ppo-module-X-v0-seed7"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "`seed` must be a whole number of at least 0, got -1"),
        ({"eval_freq": -5}, "`eval_freq` must be a whole number of at least 0, got -5"),
        ({"eval_episodes": 0}, "`eval_episodes` must be a whole number of at least 1, got 0"),
        ({"threads": -1}, "`threads` must be a whole number of at least 0, got -1"),
        ({"settings": Settings(n_timesteps=0)}, "`n_timesteps` must be a whole number of at least 1, got 0"),
        ({"settings": Settings(n_envs=0)}, "`n_envs` must be a whole number of at least 1, got 0"),
        ({"settings": Settings(hyperparameters={"n_step": 3})}, "PPO has no hyperparameter 'n_step'"),
        # SB3 asserts this one.
        ({"settings": Settings(hyperparameters={"batch_size": 0})}, "sb3-ppo on CartPole-v1: `batch_size` must be"),
        ({"settings": Settings(policy="MultiInputPolicy")}, "sb3-ppo on CartPole-v1: AttributeError: "),
        (
            {"algo": "trpo", "settings": Settings(hyperparameters={"batch_size": 0})},
            "trpo on CartPole-v1: ZeroDivisionError: ",
        ),
        ({"device": "abacus"}, "sb3-ppo on CartPole-v1: "),
        ({"project": "a/b", "track": True}, "project='a/b' must have"),
    ],
)
def test_a_mistake_is_found_before_any_work(
    change: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError) as caught:
        check(replace(small("sb3-ppo", tmp_path / "run"), **change))
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="cannot write to output folder '/dev/null/x': Not a directory"):
        check_folder(small("sb3-ppo", Path("/dev/null/x")))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("...")
    config = small("sb3-ppo", tmp_path, n_timesteps=256)
    for do in (check_folder, run):
        with pytest.raises(ValueError, match=r"holds something else \(thesis\): use a folder of its own"):
            do(config)
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "..."


def test_the_model_of_the_best_evaluation_is_kept_with_its_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Deterministic returns at 0, 64, …: the one at 128 is the best, and the later equal one does not replace it.
    returns = iter([10.0, 9.0, 30.0, 30.0, 20.0])
    kept = {}

    def play(callback: EvaluationCallback, step: int, mode: str) -> Evaluation:
        value = next(returns) if mode == "deterministic" else 100.0
        if mode == "deterministic":
            kept[step] = {name: tensor.clone() for name, tensor in callback.model.policy.state_dict().items()}
            kept[step]["mean of the observations"] = th.tensor(callback.model.get_env().obs_rms.mean)
        return Evaluation(step, step, 0.0, mode, [value], [1])

    monkeypatch.setattr(EvaluationCallback, "_play", play)
    config = small("ppo", tmp_path / "run", n_timesteps=256, eval_freq=64)
    config.settings.normalize = True
    config.settings.hyperparameters |= {"n_steps": 8, "batch_size": 64}  # 64 steps a rollout
    run(config)
    best = algorithm_class("ppo").load(config.folder / "best" / "best_model.zip")
    found = best.policy.state_dict() | {
        "mean of the observations": th.tensor(
            VecNormalize.load(str(config.folder / "best" / "vec_normalize.pkl"), make_vec_env("CartPole-v1")).obs_rms.mean
        )
    }
    assert same(found, kept[128]) and not same(found, kept[64])
