"""A grid whose processes are killed at random, its own too: what it comes to is what an undisturbed one comes to."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch as th

from crashalgos.experiments.run.registry import algorithm_class
from tests.helpers.paths import ROOT

TIMES = {"seconds", "time/fps", "time/time_elapsed"}


def command(folder: Path, algos: str, seeds: int, n_timesteps: int) -> list[str]:
    options = (
        f"--seeds {seeds} --n-timesteps {n_timesteps} --eval-freq {n_timesteps // 3} --eval-episodes 2 --jobs 2 --no-track"
    )
    freq = f"--checkpoint-freq {n_timesteps // 5}"
    script = str(ROOT / "scripts" / "compare.py")
    return [sys.executable, script, "--algos", *algos.split(), *options.split(), *freq.split(), "--output", str(folder)]


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def members(group: int) -> list[int]:
    """The processes of a group, those that only wait to be buried left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(its_group) == group and state != "Z":
                found.append(int(entry.name))
    return found


def workers(group: int) -> list[int]:
    """Those of them that are runs."""
    found = []
    for pid in members(group):
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in arguments:
            found.append(pid)
    return found


def finish(arguments: list[str], kills: int, draw: random.Random, pause: float) -> list[str]:
    """Run a grid to its end, killing it and its runs on the way; what was killed is returned."""
    killed: list[str] = []
    while True:
        process, before = start(arguments), len(killed)
        try:
            while process.poll() is None:
                if len(killed) >= kills:
                    process.wait(timeout=1_200)
                    break
                time.sleep(draw.uniform(0.0, pause))
                running = workers(process.pid)
                if not running:
                    continue
                if draw.random() < 0.3:
                    process.kill()
                    killed.append("grid")
                    process.wait()
                    break
                os.kill(draw.choice(running), signal.SIGKILL)
                killed.append("run")
            # Its runs notice, and go with it
            deadline = time.monotonic() + 20
            while members(process.pid):
                assert time.monotonic() < deadline, "processes are left over"
                time.sleep(0.1)
        finally:
            if members(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
        if process.returncode == 0:
            return killed
        # 1: a run was killed so often, one time after the other, that it counts as failed
        assert len(killed) > before and process.returncode in (1, -signal.SIGKILL)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def assert_same_results(folder: Path, other: Path) -> None:
    configs = sorted(path.parent.name for path in other.glob("*/config.json"))
    assert sorted(path.parent.name for path in folder.glob("*/config.json")) == configs
    for name in configs:
        one, two = folder / name, other / name
        # Nothing is missing, nothing is left over, no file is half of one
        files = [{path.name for path in place.iterdir()} for place in (one, two)]
        assert files[0] == files[1] and not any(file.startswith(".tmp") for file in files[0]), name
        assert json.loads((one / "status.json").read_text())["state"] == "finished"
        for file in ("progress.csv", "evaluations.csv"):
            assert rows(one / file) == rows(two / file), f"{name}/{file}"
        algo = json.loads((one / "config.json").read_text())["algo"]
        parameters = [algorithm_class(algo).load(place / "model.zip", device="cpu").get_parameters() for place in (one, two)]
        assert same(*parameters), name
    assert rows(folder / "evaluations.csv") == rows(other / "evaluations.csv")


def same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return th.equal(one, other) if isinstance(one, th.Tensor) and isinstance(other, th.Tensor) else one == other


def check(tmp_path: Path, algos: str, seeds: int, n_timesteps: int, kills: int) -> None:
    draw = random.Random(0)
    begin = time.monotonic()
    finish(command(tmp_path / "whole", algos, seeds, n_timesteps), 0, draw, 0.0)
    # So that all the kills fall into it: what is killed takes longer
    pause = (time.monotonic() - begin) / kills
    killed = finish(command(tmp_path / "killed", algos, seeds, n_timesteps), kills, draw, pause)
    print(f"killed: {killed.count('run')} runs, {killed.count('grid')} grids")
    assert len(killed) == kills
    assert_same_results(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_twelve_runs_and_twenty_kills(tmp_path: Path) -> None:
    check(tmp_path, "reinforce baseline-pg ppo sb3-ppo", seeds=3, n_timesteps=40_000, kills=20)
