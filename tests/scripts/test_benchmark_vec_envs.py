"""The speed harness's comparison of vectorized envs."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor

from crashalgos import PPO
from crashalgos.vec_envs import EnvPoolVecEnv, GymnasiumVecEnv
from scripts.benchmark import __main__ as benchmark
from scripts.benchmark import workloads
from scripts.benchmark.participants import ModelParticipant, RandomParticipant, make_participant

STEPS = replace(workloads.VEC_ENV_WORKLOADS["vec-envs"], n_envs=2, hyperparameters={"n_steps": 8}, rollouts=3)
TINY = workloads.vec_envs_workload(
    "tiny", workloads.ppo_workload("", "CartPole-v1", n_envs=2, rollouts=1, samples=64, n_epochs=2)
)
KINDS = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv, "sync": GymnasiumVecEnv, "async": GymnasiumVecEnv}
if importlib.util.find_spec("envpool"):
    KINDS["envpool"] = EnvPoolVecEnv


@pytest.mark.parametrize("kind", KINDS)
def test_participants_are_kinds_of_envs(kind: str) -> None:
    random = make_participant(kind, STEPS)
    assert isinstance(random, RandomParticipant) and type(random.env) is KINDS[kind]
    run = random.run(3)
    # 3 rollouts of 8 steps of 2 envs, and no update
    assert run.steps == 48 and run.rollouts == 3 and run.update_seconds == 0 < run.seconds
    random.env.close()


def test_ppo_is_trained_in_a_kind_of_envs() -> None:
    learning = make_participant("sync", TINY)
    assert isinstance(learning, ModelParticipant) and type(learning.model) is PPO
    env = learning.model.get_env()
    assert isinstance(env, VecMonitor) and isinstance(env.venv, GymnasiumVecEnv) and env.num_envs == 2


def test_participants_of_a_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into the working directory
    for installed in (True, False):
        monkeypatch.setattr(workloads, "is_installed", lambda module, installed=installed: module == "sbx" or installed)
        notes: list[str] = []
        (plan,) = benchmark.make_plan(benchmark.BenchmarkOptions(workloads=("vec-envs-ppo",)), notes)
        assert plan.participants == ("dummy", "subproc", "sync", "async") + (("envpool",) if installed else ())
        assert plan.workload.reference == "dummy" and plan.workload.rollout_steps == 2048
        assert notes == ([] if installed else ["EnvPool is left out, because it is not installed: pip install envpool"])
    # By default vectorized envs are not compared, and no note says that EnvPool is missing.
    notes = []
    plans = benchmark.make_plan(benchmark.BenchmarkOptions(), notes)
    assert not any(name in workloads.VEC_ENV_WORKLOADS for name in (planned.name for planned in plans)) and notes == []


@pytest.mark.slow
def test_a_small_comparison(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A participant's process can have processes of its own."""
    monkeypatch.setitem(workloads.VEC_ENV_WORKLOADS, "vec-envs", STEPS)
    command = ["--workloads", "vec-envs", "--contenders", "async", "--repeats", "2", "--threads", "1", "--out", str(tmp_path)]
    assert benchmark.main(command) == 0
    found = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))["workloads"]["vec-envs"]
    assert found["reference"] == "dummy" and set(found["contenders"]) == {"dummy", "async"}
    for row in found["contenders"].values():
        assert row["failure"] is None and [training["steps"] for training in row["trainings"]] == [48, 48]
    assert "| gymnasium, async |" in (tmp_path / "benchmark.md").read_text(encoding="utf-8")
