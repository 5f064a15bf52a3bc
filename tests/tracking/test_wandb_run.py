"""How a run begins: online, offline or not at all, without a prompt, and without waiting long."""

import csv
import os
import pty
import select
import subprocess
import sys
import time

import pytest
import wandb
from stable_baselines3.common.logger import configure

from crashalgos.tracking import WandbCallback
from tests.helpers.paths import ROOT
from tests.helpers.tracked import N_STEPS, make_model, offline


def test_disabled_by_argument_and_by_environment(tmp_path, monkeypatch):
    for callback in (WandbCallback("p", mode="disabled"), WandbCallback("p")):
        make_model().learn(N_STEPS, callback=callback)
        assert callback.run_dir is None
        monkeypatch.setenv("WANDB_MODE", "disabled")
    assert not (tmp_path / "wandb").exists()


def test_says_where_the_run_is_in_one_line(capfd):
    callback = WandbCallback("p")
    make_model().learn(N_STEPS, callback=callback)
    out, err = capfd.readouterr()
    assert out.count("\n") == 1 and str(callback.run_dir) in out and callback.run_dir.name.startswith("offline-run")
    assert err == ""


def test_limits_on_waiting(monkeypatch):
    seen = []
    init = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **kwargs: seen.append(kwargs["settings"]) or init(**kwargs))
    make_model().learn(N_STEPS, callback=offline(save_model=False))
    assert seen[0].init_timeout == 30 and seen[0].finish_timeout == 60


SCRIPT = """
import os
from stable_baselines3 import PPO
from crashalgos.tracking import WandbCallback
for mode in ("as it is", "online"):
    if mode == "online":
        os.environ["WANDB_MODE"] = mode
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1)
    model.learn(96, callback=WandbCallback("p", name=mode))
    print("TRAINED")
"""


def script_environment(**variables):
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": "", **variables}


def test_no_prompt_in_a_terminal_without_a_key(tmp_path, read_run):
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=end,
        stdout=end,
        stderr=end,
        env=script_environment(TERM="xterm"),
        start_new_session=True,
    )
    os.close(end)
    output, deadline = b"", time.monotonic() + 200
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.5)[0]:
                try:
                    output += os.read(terminal, 4096)
                except OSError:  # the other end is closed
                    break
            elif process.poll() is not None:
                break
        assert process.wait(timeout=240) == 0, output.decode()
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    text = output.decode()
    assert text.count("TRAINED") == 2 and "choice" not in text
    # Asked for online, it says why the run is not
    assert ["UserWarning" in part for part in text.split("TRAINED")] == [False, True, False]
    runs = [read_run(folder) for folder in (tmp_path / "wandb").glob("offline-run-*")]
    assert sorted(run.header["display_name"] for run in runs) == ["as it is", "online"]
    assert all(run.series("train/n_updates") == [(64, 1), (96, 2), (96, 3)] for run in runs)


def test_key_without_network(tmp_path, monkeypatch, read_run):
    monkeypatch.setenv("WANDB_API_KEY", "local-" + 40 * "a")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
    model, callback = make_model(), WandbCallback("p")
    model.set_logger(configure(str(tmp_path / "log"), ["csv"]))
    with pytest.warns(UserWarning, match="W&B: starting the run online failed") as warned:
        model.learn(3 * N_STEPS, callback=callback)
    [text] = [str(warning.message) for warning in warned if "W&B" in str(warning.message)]
    assert "wandb sync" in text and str(callback.run_dir) in text and callback.run_dir.name.startswith("offline-run-")
    with open(tmp_path / "log" / "progress.csv") as file:
        assert [int(row["time/total_timesteps"]) for row in csv.DictReader(file)] == [32, 64, 96]
    assert read_run(callback.run_dir).series("train/n_updates") == [(64, 1), (96, 2), (96, 3)]


def test_import_is_cheap():
    code = "import sys, crashalgos.tracking; print([m for m in ('wandb', 'moviepy', 'matplotlib') if m in sys.modules])"
    answer = subprocess.run(
        [sys.executable, "-c", code], env=script_environment(), capture_output=True, text=True, check=True, timeout=240
    )
    sb3 = subprocess.run(
        [sys.executable, "-c", code.replace("crashalgos.tracking", "stable_baselines3")],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert answer.stdout == sb3.stdout and "wandb" not in answer.stdout
