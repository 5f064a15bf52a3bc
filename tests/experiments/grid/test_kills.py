"""A grid whose processes are killed at random, its own as well, ends with the results of an undisturbed grid."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crashalgos.experiments.run.registry import algorithm_class
from tests.helpers.grids import equal_values, rows_without_times
from tests.helpers.paths import ROOT


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


def processes_of(group: int) -> list[int]:
    """Lists the processes of a group, without zombies."""
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


def run_processes_of(group: int) -> list[int]:
    """Lists the processes of a group that execute runs."""
    found = []
    for pid in processes_of(group):
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in arguments:
            found.append(pid)
    return found


def finish_with_kills(arguments: list[str], kills: int, rng: random.Random, pause: float) -> list[str]:
    """Executes a grid to its end, kills it and its runs at random, and lists what was killed."""
    killed: list[str] = []
    while True:
        process, before = start(arguments), len(killed)
        try:
            while process.poll() is None:
                if len(killed) >= kills:
                    process.wait(timeout=1_200)
                    break
                time.sleep(rng.uniform(0.0, pause))
                running = run_processes_of(process.pid)
                if not running:
                    continue
                if rng.random() < 0.3:
                    process.kill()
                    killed.append("grid")
                    process.wait()
                    break
                os.kill(rng.choice(running), signal.SIGKILL)
                killed.append("run")
            # Its runs notice its end, and end as well
            deadline = time.monotonic() + 20
            while processes_of(process.pid):
                assert time.monotonic() < deadline, "processes are left over"
                time.sleep(0.1)
        finally:
            if processes_of(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
        if process.returncode == 0:
            return killed
        # 1: a run was killed so often in a row that it counts as failed
        assert len(killed) > before and process.returncode in (1, -signal.SIGKILL)


def assert_same_results(folder: Path, other: Path) -> None:
    configs = sorted(path.parent.name for path in other.glob("*/config.json"))
    assert sorted(path.parent.name for path in folder.glob("*/config.json")) == configs
    for name in configs:
        one, two = folder / name, other / name
        # No file is missing, left over or unfinished
        files = [{path.name for path in place.iterdir()} for place in (one, two)]
        assert files[0] == files[1] and not any(file.startswith(".tmp") for file in files[0]), name
        assert json.loads((one / "status.json").read_text())["state"] == "finished"
        for file in ("progress.csv", "evaluations.csv"):
            assert rows_without_times(one / file) == rows_without_times(two / file), f"{name}/{file}"
        algo = json.loads((one / "config.json").read_text())["algo"]
        parameters = [algorithm_class(algo).load(place / "model.zip", device="cpu").get_parameters() for place in (one, two)]
        assert equal_values(*parameters), name
    assert rows_without_times(folder / "evaluations.csv") == rows_without_times(other / "evaluations.csv")


def check_killed_grid(tmp_path: Path, algos: str, seeds: int, n_timesteps: int, kills: int) -> None:
    rng = random.Random(0)
    begin = time.monotonic()
    finish_with_kills(command(tmp_path / "whole", algos, seeds, n_timesteps), 0, rng, 0.0)
    # All kills happen before the end, because a killed grid takes longer
    pause = (time.monotonic() - begin) / kills
    killed = finish_with_kills(command(tmp_path / "killed", algos, seeds, n_timesteps), kills, rng, pause)
    print(f"killed: {killed.count('run')} runs, {killed.count('grid')} grids")
    assert len(killed) == kills
    assert_same_results(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_twelve_runs_and_twenty_kills(tmp_path: Path) -> None:
    check_killed_grid(tmp_path, "reinforce baseline-pg ppo sb3-ppo", seeds=3, n_timesteps=40_000, kills=20)
