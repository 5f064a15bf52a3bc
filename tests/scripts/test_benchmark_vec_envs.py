"""The benchmark's comparison of vectorized envs."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor

from crashalgos import PPO
from crashalgos.vec_envs import EnvPoolVecEnv, GymnasiumVecEnv
from scripts.benchmark import worker, workloads
from scripts.benchmark.worker import Task, make_contender

Script = Callable[[str], ModuleType]

STEPS = replace(workloads.MORE_WORKLOADS["vec-envs"], n_envs=2, hyperparameters={"n_steps": 8}, rollouts=3)
TINY = workloads.vec_envs("tiny", workloads.ppo("", "CartPole-v1", n_envs=2, rollouts=1, samples=64, n_epochs=2))
KINDS = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv, "sync": GymnasiumVecEnv, "async": GymnasiumVecEnv}
if importlib.util.find_spec("envpool"):
    KINDS["envpool"] = EnvPoolVecEnv


@pytest.mark.parametrize("kind", KINDS)
def test_contenders_are_kinds_of_envs(kind: str, tmp_path: Path) -> None:
    random = make_contender(Task(kind, STEPS, tmp_path / "log"))
    assert isinstance(random, worker.RandomContender) and type(random.env) is KINDS[kind]
    training = random.train(3)
    # 3 rollouts of 8 steps of 2 envs, and no update
    assert training.steps == 48 and training.rollouts == 3 and training.update_seconds == 0 < training.seconds
    random.env.close()


def test_what_is_trained(tmp_path: Path) -> None:
    learning = make_contender(Task("sync", TINY, tmp_path / "log"))
    assert isinstance(learning, worker.ModelContender) and type(learning.model) is PPO
    env = learning.model.get_env()
    assert isinstance(env, VecMonitor) and isinstance(env.venv, GymnasiumVecEnv) and env.num_envs == 2


def test_what_takes_part(load_script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into the working directory
    benchmark = load_script("benchmark")
    monkeypatch.setattr(workloads, "sbx_installed", lambda: True)
    for installed in (True, False):
        monkeypatch.setattr(workloads, "envpool_installed", lambda installed=installed: installed)
        notes: list[str] = []
        (plan,) = benchmark.make_plan(benchmark.BenchmarkOptions(workloads=("vec-envs-ppo",)), notes)
        assert plan.contenders == ("dummy", "subproc", "sync", "async") + (("envpool",) if installed else ())
        assert plan.workload.reference == "dummy" and plan.workload.rollout_steps == 2048
        assert notes == ([] if installed else ["EnvPool is left out, because it is not installed: pip install envpool"])
    # Only where they are asked for, and nothing is said of what is missing for them otherwise
    notes = []
    plans = benchmark.make_plan(benchmark.BenchmarkOptions(), notes)
    assert not any(name in workloads.MORE_WORKLOADS for name in (planned.name for planned in plans)) and notes == []


@pytest.mark.slow
def test_a_small_comparison(load_script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With processes in a contender's process."""
    monkeypatch.setitem(workloads.MORE_WORKLOADS, "vec-envs", STEPS)
    command = ["--workloads", "vec-envs", "--contenders", "async", "--repeats", "2", "--threads", "1", "--out", str(tmp_path)]
    assert load_script("benchmark").main(command) == 0
    found = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))["workloads"]["vec-envs"]
    assert found["reference"] == "dummy" and set(found["contenders"]) == {"dummy", "async"}
    for row in found["contenders"].values():
        assert row["failure"] is None and [training["steps"] for training in row["trainings"]] == [48, 48]
    assert "| gymnasium, async |" in (tmp_path / "benchmark.md").read_text(encoding="utf-8")
