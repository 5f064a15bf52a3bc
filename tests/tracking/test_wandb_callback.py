"""What the callback puts into a run; no error of W&B stops the training."""

import importlib.util
import json
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
import wandb
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecNormalize

from crashalgos.tracking import WandbCallback
from tests.helpers.tracked import N_STEPS, make_model, offline


class TrainRecorder:
    """Reads the figures of every update right after it, not from what ``dump`` writes."""

    def __init__(self, monkeypatch):
        self.updates = []
        train = PPO.train

        def train_and_record(model):
            train(model)
            values = {key: value for key, value in model.logger.name_to_value.items() if key.startswith("train/")}
            self.updates.append({key: float(value) for key, value in values.items()})

        monkeypatch.setattr(PPO, "train", train_and_record)


class Fail(BaseCallback):
    def _on_step(self):
        if self.num_timesteps >= 50:
            raise RuntimeError("the environment broke")
        return True


def test_run_has_config_every_figure_and_the_model(tmp_path, monkeypatch, read_run):
    env = VecNormalize(make_vec_env("CartPole-v1", n_envs=2))
    model = make_model(env, gamma=0.97)
    model.set_logger(configure(str(tmp_path / "log"), ["json"]))
    recorder = TrainRecorder(monkeypatch)
    callback = offline(name="n", group="g", job_type="train", tags=["t"], config={"note": {"a": 1}}, dir=tmp_path / "runs")
    model.learn(6 * N_STEPS, callback=callback)

    assert callback.run_dir.parent == tmp_path / "runs" / "wandb"
    run = read_run(callback.run_dir)
    assert run.header["display_name"] == "n" and run.header["run_group"] == "g"
    assert run.header["job_type"] == "train" and run.header["tags"] == ["t"]
    assert run.config["algorithm"] == "PPO" and run.config["gamma"] == 0.97 and run.config["note"] == {"a": 1}
    assert run.config["env"]["id"] == "CartPole-v1" and run.config["env"]["n_envs"] == 2
    assert run.of_type("metric")[0]["glob_name"] == "*" and run.of_type("metric")[0]["step_metric"] == "global_step"

    # Three updates of 2 * 32 steps: three dumps, each before its update, and one row for the last update
    assert [row["global_step"] for row in run.rows] == [64, 128, 192, 192]
    assert len(recorder.updates) == 3
    assert [{k: v for k, v in row.items() if k.startswith("train/")} for row in run.rows] == [{}, *recorder.updates]
    dumped = [json.loads(line) for line in (tmp_path / "log" / "progress.json").read_text().splitlines()]
    assert [{k: v for k, v in row.items() if k != "global_step"} for row in run.rows[:3]] == dumped

    order = [record["type"] for record in run.records if record["type"] in ("history", "artifact")]
    assert order == [*4 * ["history"], "artifact"]  # the figures are safe before the model is saved
    [artifact] = run.of_type("artifact")
    assert artifact["type"] == "model"
    files = {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
    assert set(files) == {"model.zip", "vec_normalize.pkl"}
    assert all(callback.run_dir in path.parents for path in files.values())
    loaded = PPO.load(files["model.zip"])
    assert all(th.equal(p, q) for p, q in zip(loaded.policy.parameters(), model.policy.parameters(), strict=True))
    statistics = VecNormalize.load(str(files["vec_normalize.pkl"]), make_vec_env("CartPole-v1"))
    np.testing.assert_array_equal(statistics.obs_rms.mean, env.obs_rms.mean)
    assert not (tmp_path / "home").exists() or not list((tmp_path / "home").rglob("staging/*"))


def test_logger_is_left_as_it_was(tmp_path):
    model = make_model()
    model.set_logger(configure(str(tmp_path / "log"), ["csv"]))
    formats = list(model.logger.output_formats)
    model.learn(2 * N_STEPS, callback=offline())
    assert model.logger.output_formats == formats
    assert "train/loss" in model.logger.name_to_value  # not dumped, thus not cleared


def test_continuing_learn_continues_the_run_and_resetting_begins_another(tmp_path, read_run):
    model = make_model()
    model.set_logger(configure(str(tmp_path / "log"), ["csv"]))  # keeps the last update's figures between two learns
    callback = offline()
    folders, ids = [], []
    for reset in (True, False, True):
        model.learn(2 * N_STEPS, callback=callback, reset_num_timesteps=reset)
        folders.append(callback.run_dir)
        ids.append(callback.run_id)
    assert ids[0] == ids[1] != ids[2]
    assert len(set(folders)) == 3
    first, second, third = map(read_run, folders)
    assert not first.header.get("resume") and second.header["resume"] and not third.header.get("resume")
    # Each update once (n_updates is the model's own count): the figures left in the logger are not sent a second time
    assert first.series("train/n_updates") == [(64, 1), (64, 2)]
    assert second.series("train/n_updates") == [(128, 3), (128, 4)]
    assert third.series("train/n_updates") == [(64, 5), (64, 6)]
    assert [row["global_step"] for row in second.rows] == [96, 128, 128]


def test_run_id_continues_the_run_of_another_process(read_run):
    first, second = offline(), None
    model = make_model().learn(N_STEPS, callback=first)
    second = offline(run_id=first.run_id)
    model.learn(N_STEPS, callback=second, reset_num_timesteps=False)
    assert second.run_id == first.run_id and read_run(second.run_dir).header["resume"]
    model.learn(N_STEPS, callback=second)
    assert second.run_id != first.run_id


@pytest.mark.parametrize("reset", [False, True])
def test_learn_after_a_learn_that_raised(reset, tmp_path, read_run):
    model = make_model()
    model.set_logger(configure(str(tmp_path / "log"), ["csv"]))
    callback = offline()
    with pytest.raises(RuntimeError, match="broke"):
        model.learn(4 * N_STEPS, callback=[callback, Fail()])
    failed, failed_id = callback.run_dir, callback.run_id
    model.learn(N_STEPS, callback=callback, reset_num_timesteps=reset)
    assert (callback.run_id == failed_id) is not reset
    assert read_run(failed).series("train/n_updates") == [(50, 1)]
    assert read_run(failed).of_type("exit")[0]["exit_code"] == 1
    assert [step for step, _ in read_run(callback.run_dir).series("train/n_updates")] == [N_STEPS if reset else 50 + N_STEPS]
    assert len(model.logger.output_formats) == 1


def test_two_runs_in_one_process_do_not_mix(read_run):
    inner_model, inner = A2C("MlpPolicy", "CartPole-v1", n_steps=5), offline(name="inner")

    class LearnInside(BaseCallback):
        def _on_rollout_end(self):
            if self.num_timesteps == N_STEPS:
                inner_model.learn(10, callback=inner, log_interval=1)

        def _on_step(self):
            return True

    outer = offline(name="outer")
    model = make_model().learn(2 * N_STEPS, callback=[outer, LearnInside()])
    assert wandb.run is None
    outer_run, inner_run = read_run(outer.run_dir), read_run(inner.run_dir)
    assert outer_run.config["algorithm"] == "PPO" and inner_run.config["algorithm"] == "A2C"
    assert [row["global_step"] for row in outer_run.rows] == [32, 64, 64]
    assert [row["global_step"] for row in inner_run.rows] == [5, 10, 10]
    paths = [e["local_path"] for run in (outer_run, inner_run) for e in run.of_type("artifact")[0]["manifest"]["contents"]]
    assert [Path(path).parents[2] for path in paths] == [outer.run_dir, inner.run_dir]
    assert model.num_timesteps == 64


def test_stopping_callback_sends_no_row_without_figures(read_run):
    class Stop(BaseCallback):
        def _on_step(self):
            return False

    callback = offline()
    make_model().learn(4 * N_STEPS, callback=CallbackList([callback, Stop()]))
    assert read_run(callback.run_dir).rows == []


def test_excluded_keys(tmp_path, read_run):
    class Record(BaseCallback):
        def _on_rollout_end(self):
            self.logger.record("a/kept", np.float32(0.5), exclude="tensorboard")
            self.logger.record("a/left_out", 1.0, exclude=("wandb", "csv"))

        def _on_step(self):
            return True

    callback = offline()
    make_model().learn(N_STEPS, callback=[callback, Record()])
    run = read_run(callback.run_dir)
    assert run.series("a/kept") == [(32, 0.5)]
    assert run.series("a/left_out") == []


def test_model_is_saved_while_tracked(tmp_path):
    model = make_model()
    checkpoints = CheckpointCallback(save_freq=40, save_path=str(tmp_path / "checkpoints"))
    model.learn(2 * N_STEPS, callback=[offline(save_model=False), checkpoints])
    assert PPO.load(tmp_path / "checkpoints" / "rl_model_40_steps.zip").num_timesteps == 40


@pytest.mark.parametrize("broken", ["init", "log", "log_artifact", "finish", "define_metric"])
def test_error_of_wandb_never_stops_training(broken, tmp_path, monkeypatch, read_run):
    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    callback = offline()
    model = make_model()
    model.set_logger(configure(str(tmp_path / "log"), ["csv"]))
    with monkeypatch.context() as patch:
        patch.setattr(wandb if broken == "init" else wandb.Run, broken, fail)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.learn(3 * N_STEPS, callback=callback)
    messages = [str(w.message) for w in caught if "W&B" in str(w.message)]
    assert len(messages) == 1 and "No space left on device" in messages[0]
    assert ("SB3's logger" if broken == "init" else str(callback.run_dir)) in messages[0]
    assert model.num_timesteps == 3 * N_STEPS and model._n_updates == 3
    assert len((tmp_path / "log" / "progress.csv").read_text().splitlines()) == 4
    assert len(model.logger.output_formats) == 1
    if broken in ("log_artifact", "define_metric"):  # the figures, which did not fail, are there
        assert read_run(callback.run_dir).series("train/n_updates") == [(64, 1), (96, 2), (96, 3)]


def test_close_ends_the_run_of_a_learn_that_raised(read_run):
    class Fails(BaseCallback):
        def _on_step(self):
            if self.num_timesteps > N_STEPS:
                raise RuntimeError("the env broke")
            return True

    callback = WandbCallback("p", verbose=0)
    with pytest.raises(RuntimeError, match="the env broke"):
        make_model().learn(2 * N_STEPS, callback=[callback, Fails()])
    callback.close()
    callback.close()  # nothing is open any more
    assert read_run(callback.run_dir).series("train/n_updates") == [(N_STEPS + 1, 1)]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("project", ""),
        ("project", "a/b"),
        ("project", 3),
        ("run_id", "a:b"),
        ("mode", "onlin"),
        ("tags", "abc"),
        ("tags", [""]),
        ("config", 3),
        ("video_env", "NoSuchEnv-v0"),
        ("video_env", 3),
    ],
)
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=argument) as error:
        WandbCallback(**{"project": "p", argument: value})
    assert repr(value) in str(error.value)


def test_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="dir="):
        WandbCallback("p", dir=tmp_path / "file" / "runs")


def test_missing_moviepy_is_named_before_any_work(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "moviepy" else find_spec(name))
    with pytest.raises(ImportError, match=r"crashalgos\[video\]"):
        WandbCallback("p", video_env="CartPole-v1")


def test_video_is_in_the_run(read_run):
    env = VecNormalize(make_vec_env("CartPole-v1"))
    callback = offline(video_env=lambda: gym.make("CartPole-v1", render_mode="rgb_array"))
    make_model(env).learn(N_STEPS, callback=callback)
    [row] = [row for row in read_run(callback.run_dir).rows if "eval/video._type" in row]
    assert row["eval/video._type"] == "video-file" and row["global_step"] == N_STEPS
    assert (callback.run_dir / "files" / row["eval/video.path"]).stat().st_size > 1000
    assert json.dumps(row).count(".mp4") == 1


def test_video_that_cannot_be_made_loses_nothing_else(read_run):
    callback = offline(video_env=lambda: gym.make("CartPole-v1"))  # draws nothing
    with pytest.warns(UserWarning, match="recording the evaluation video failed"):
        make_model().learn(N_STEPS, callback=callback)
    run = read_run(callback.run_dir)
    assert run.series("train/n_updates") == [(32, 1)] and len(run.of_type("artifact")) == 1
