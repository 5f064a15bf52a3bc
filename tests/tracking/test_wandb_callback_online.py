"""Runs on a W&B server are whole there, or whole on disk and, after ``wandb sync``, there."""

import csv
import io
import subprocess
import sys

import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecNormalize

from crashalgos.tracking import WandbCallback
from tests.helpers.tracked import N_STEPS, make_model
from tests.helpers.wandb_server import WandbServer

N_UPDATES = 6


def learn(tmp_path, *callbacks, n_updates=N_UPDATES, **kwargs):
    """Makes a short run, with its figures in ``progress.csv``, tracked in ``wandb/``."""
    model = make_model(seed=0)
    model.set_logger(configure(str(tmp_path / "log"), ["csv"]))
    callback = WandbCallback("p", dir=tmp_path, verbose=0, **kwargs)
    model.learn(n_updates * N_STEPS, callback=[callback, *callbacks])
    model.logger.close()
    return model, callback


def sync(*arguments):
    subprocess.run([sys.executable, "-m", "wandb", "sync", *map(str, arguments)], check=True, timeout=240)


def untimed(rows):
    """Leaves out what depends on the speed of the machine."""
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]


def updates(rows):
    return [(row["global_step"], row.get("train/n_updates")) for row in rows]


ALL_UPDATES = [(32, None), (64, 1), (96, 2), (128, 3), (160, 4), (192, 5), (192, 6)]


def csv_steps(tmp_path):
    with open(tmp_path / "log" / "progress.csv") as file:
        return [int(row["time/total_timesteps"]) for row in csv.DictReader(file)]


def weights(content):
    return list(PPO.load(io.BytesIO(content)).policy.parameters())


def same(parameters, others):
    return all(th.equal(p, q) for p, q in zip(parameters, others, strict=True))


def test_a_run_is_on_the_server_with_all_that_belongs_to_it(server, tmp_path):
    model, callback = learn(tmp_path, name="n", group="g", job_type="train", tags=["a", "b"], config={"note": 1})
    run = server.run
    assert callback.run_url == f"{server.url}/me/p/runs/{callback.run_id}" and list(server.runs) == [callback.run_id]
    names = ("displayName", "groupName", "jobType", "tags", "project")
    assert [run.fields[name] for name in names] == ["n", "g", "train", ["a", "b"], "p"]
    assert run.config["algorithm"] == "PPO" and run.config["note"] == 1 and run.config["n_steps"] == N_STEPS
    assert updates(run.rows) == ALL_UPDATES and run.exit_code == 0
    [artifact] = server.artifacts
    assert artifact.run == callback.run_id and artifact.type == "model" and artifact.aliases == ["latest"]
    assert artifact.committed and artifact.metadata == {"global_step": N_UPDATES * N_STEPS}
    assert same(weights(artifact.files["model.zip"]), model.policy.parameters())


def test_best_and_latest_are_versions_of_one_artifact(server, tmp_path):
    env = VecNormalize(make_vec_env("CartPole-v1"))
    model = make_model(env, seed=0)

    class KeepsBest(BaseCallback):
        """The second evaluation is the best one."""

        def __init__(self):
            super().__init__()
            self.best = None

        def _on_step(self):
            if self.num_timesteps == 2 * N_STEPS:
                (tmp_path / "best").mkdir()
                self.model.save(tmp_path / "best" / "best_model.zip")
                env.save(tmp_path / "best" / "vec_normalize.pkl")
                self.best = [parameter.detach().clone() for parameter in self.model.policy.parameters()]
            return True

    keeps = KeepsBest()
    callback = WandbCallback("p", dir=tmp_path, verbose=0, best_model_save_path=tmp_path / "best")
    model.learn(4 * N_STEPS, callback=[keeps, callback])

    best, latest = server.artifacts
    assert best.name == latest.name == f"model-{callback.run_id}" and best.committed and latest.committed
    assert [best.aliases, latest.aliases] == [["best"], ["latest"]]
    assert set(best.files) - {"wandb_manifest.json"} == {"model.zip", "vec_normalize.pkl"}
    assert same(weights(best.files["model.zip"]), keeps.best)
    assert not same(weights(latest.files["model.zip"]), keeps.best)
    assert best.files["vec_normalize.pkl"] == (tmp_path / "best" / "vec_normalize.pkl").read_bytes()


def test_the_best_model_of_sb3s_eval_callback(server, tmp_path):
    evaluation = EvalCallback(
        make_vec_env("CartPole-v1", seed=1), eval_freq=N_STEPS, best_model_save_path=str(tmp_path / "best"), verbose=0
    )
    learn(tmp_path, evaluation, best_model_save_path=tmp_path / "best")
    best, _ = server.artifacts
    assert best.aliases == ["best"]
    assert best.files["model.zip"] == (tmp_path / "best" / "best_model.zip").read_bytes()
    learn(tmp_path, best_model_save_path=tmp_path / "no evaluation")
    assert [artifact.aliases for artifact in server.artifacts[2:]] == [["latest"]]


def test_a_run_that_was_interrupted_is_resumed_by_another_process(server, tmp_path):
    class Stop(BaseCallback):
        def _on_step(self):
            if self.num_timesteps > 3 * N_STEPS:
                raise KeyboardInterrupt
            return True

    model, callback = make_model(seed=0), WandbCallback("p", dir=tmp_path, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        model.learn(N_UPDATES * N_STEPS, callback=[callback, Stop()])
    callback.close()
    assert server.run.exit_code == 1
    model.save(tmp_path / "interrupted.zip")

    code = f"""
from stable_baselines3 import PPO
from crashalgos.tracking import WandbCallback
model = PPO.load({str(tmp_path / "interrupted.zip")!r}, env=PPO("MlpPolicy", "CartPole-v1").get_env())
callback = WandbCallback("p", dir={str(tmp_path)!r}, verbose=0, run_id={callback.run_id!r})
model.learn(3 * {N_STEPS}, callback=callback, reset_num_timesteps=False)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
    assert server.run.exit_code == 0
    steps = [step for step, _ in updates(server.run.rows)]
    # 97 is where the interrupt came; three more rollouts follow, and the row of the last update.
    assert steps == [32, 64, 96, 97, 129, 161, 193, 193]


def test_an_offline_run_synced_afterwards_holds_the_same_rows(server, tmp_path, read_run):
    learn(tmp_path / "online", group="g", tags=["t"])
    online = server.run
    _, callback = learn(tmp_path / "offline", mode="offline", group="g", tags=["t"])
    assert list(server.runs.values()) == [online]  # nothing of it is there yet
    sync(callback.run_dir)
    synced = server.runs[callback.run_id]
    assert untimed(synced.rows) == untimed(online.rows) and len(synced.rows) == len(ALL_UPDATES)
    on_disk = read_run(callback.run_dir).rows
    assert untimed(synced.rows) == untimed(on_disk)
    assert [synced.fields[name] for name in ("groupName", "tags")] == ["g", ["t"]] and synced.exit_code == 0
    first, second = server.artifacts
    assert second.run == callback.run_id and second.aliases == ["latest"] and second.committed
    assert same(weights(first.files["model.zip"]), weights(second.files["model.zip"]))


def test_an_offline_run_that_was_moved_keeps_its_model(server, tmp_path):
    _, callback = learn(tmp_path / "there", mode="offline", n_updates=1)
    model = (callback.run_dir / "files" / "model" / "model.zip").read_bytes()
    (tmp_path / "there").rename(tmp_path / "here")
    sync(tmp_path / "here" / callback.run_dir.relative_to(tmp_path / "there"))
    # W&B cannot make an artifact of it
    assert server.run.files["model/model.zip"] == model and not server.artifacts[-1].committed


def test_videos_are_filmed_on_the_way_and_at_the_end_and_change_nothing(server, tmp_path):
    plain, _ = learn(tmp_path, mode="disabled")
    filmed, _ = learn(tmp_path, video_env="CartPole-v1", video_freq=2 * N_STEPS)
    assert same(plain.policy.parameters(), filmed.policy.parameters())
    steps = [row["global_step"] for row in server.run.rows if "eval/video" in row]
    assert steps == [64, 128, 192, 192]
    videos = [row["eval/video"]["path"] for row in server.run.rows if "eval/video" in row]
    assert all(b"ftyp" in server.run.files[video][:16] for video in videos)


def test_a_run_is_continued_in_the_order_of_its_steps(server, tmp_path):
    model, callback = make_model(), WandbCallback("p", dir=tmp_path, save_model=False)
    model.learn(2 * N_STEPS, callback=callback)
    assert callback.run_dir.name.startswith("run-")
    model.learn(2 * N_STEPS, callback=callback, reset_num_timesteps=False)
    assert updates(server.run.rows) == TWO_LEARNS


def test_a_continued_offline_run_is_whole_after_sync(server, tmp_path):
    model, callback = make_model(), WandbCallback("p", dir=tmp_path, mode="offline", verbose=0, save_model=False)
    folders = []
    for reset in (True, False):
        model.learn(2 * N_STEPS, callback=callback, reset_num_timesteps=reset)
        folders.append(callback.run_dir)
    assert server.operations == []
    sync(*reversed(folders))
    assert updates(server.run.rows) == TWO_LEARNS


TWO_LEARNS = [(32, None), (64, 1), (64, 2), (96, None), (128, 3), (128, 4)]


# What goes wrong with a server: the training ends, with one warning, and all of it is in the files; `wandb sync` of the run's
# folder, when the server is well again, brings the same rows there.


def check_all_is_there(server, tmp_path, callback, read_run, warned):
    [message] = [str(warning.message) for warning in warned if str(warning.message).startswith("W&B")]
    assert csv_steps(tmp_path) == [32, 64, 96, 128, 160, 192]
    on_disk = read_run(callback.run_dir)
    assert updates(on_disk.rows) == ALL_UPDATES
    # As the warning says
    sync(*message.partition("wandb sync ")[2].split(" (")[0].split())
    run = server.runs[callback.run_id]
    assert untimed(run.rows) == untimed(on_disk.rows)
    model = (callback.run_dir / "files" / "model" / "model.zip").read_bytes()
    if on_disk.of_type("artifact"):
        assert server.artifacts[-1].committed and server.artifacts[-1].files["model.zip"] == model
    else:  # W&B makes none without a server
        assert run.files["model/model.zip"] == model


def test_a_server_that_fails_in_the_middle(server, tmp_path, monkeypatch, read_run, impatient):
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "3")

    class Break(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 3 * N_STEPS:
                server.fails = True
            return True

    with pytest.warns(UserWarning, match="W&B: (saving the model|finishing the run) failed") as warned:
        _, callback = learn(tmp_path, Break())
    assert server.run.exit_code is None
    server.fails = False
    check_all_is_there(server, tmp_path, callback, read_run, warned)


@pytest.mark.slow
def test_a_server_that_goes_away_in_the_middle(server, tmp_path, monkeypatch, read_run, impatient):
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "3")

    class Unplug(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 3 * N_STEPS:
                server.stop()
            return True

    with pytest.warns(UserWarning, match="W&B: (saving the model|finishing the run) failed") as warned:
        _, callback = learn(tmp_path, Unplug())
    with WandbServer() as another:
        monkeypatch.setenv("WANDB_BASE_URL", another.url)
        check_all_is_there(another, tmp_path, callback, read_run, warned)


def test_a_slow_server_gets_all_of_it(server, tmp_path):
    server.seconds_to_answer = 0.3
    learn(tmp_path)
    assert updates(server.run.rows) == ALL_UPDATES and server.run.exit_code == 0
    assert csv_steps(tmp_path) == [32, 64, 96, 128, 160, 192]


def test_a_server_too_slow_to_begin_with(server, tmp_path, monkeypatch, read_run):
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    server.seconds_to_answer = 30.0
    with pytest.warns(UserWarning, match="W&B: starting the run online failed") as warned:
        _, callback = learn(tmp_path)
    assert callback.run_dir.name.startswith("offline-run-")
    server.seconds_to_answer = 0.0
    check_all_is_there(server, tmp_path, callback, read_run, warned)


@pytest.mark.slow
def test_a_server_too_slow_to_finish_with(server, tmp_path, monkeypatch, read_run, impatient):
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")

    class SlowDown(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 3 * N_STEPS:
                server.seconds_to_answer = 60.0
            return True

    with pytest.warns(UserWarning, match="W&B: (saving the model|finishing the run) failed") as warned:
        _, callback = learn(tmp_path, SlowDown())
    server.seconds_to_answer = 0.0
    check_all_is_there(server, tmp_path, callback, read_run, warned)


def test_a_key_that_the_server_refuses(server, tmp_path, read_run):
    server.refuses_key = True
    with pytest.warns(UserWarning, match="W&B: starting the run online failed") as warned:
        _, callback = learn(tmp_path)
    assert callback.run_dir.name.startswith("offline-run-") and server.runs == {}
    server.refuses_key = False
    check_all_is_there(server, tmp_path, callback, read_run, warned)


def test_a_key_of_the_wrong_form(server, tmp_path, monkeypatch, read_run):
    monkeypatch.setenv("WANDB_API_KEY", "too-short")
    with pytest.warns(UserWarning, match="W&B: starting the run online failed"):
        _, callback = learn(tmp_path)
    assert updates(read_run(callback.run_dir).rows) == ALL_UPDATES and csv_steps(tmp_path) == [32, 64, 96, 128, 160, 192]
