"""The speed harness: its contests, its participants, its command line and its files."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO as SB3PPO

from crashalgos import REINFORCE
from scripts.benchmark import __main__ as benchmark
from scripts.benchmark import contest, floor, tables, workloads
from scripts.benchmark.contest import ParticipantFailed, ParticipantProcess, Result, take_turns
from scripts.benchmark.participants import ModelParticipant, PlainParticipant, TimedRun, make_participant
from scripts.benchmark.plain_loop import PlainLoop, discounted_returns, set_fixed_weights
from scripts.benchmark.worker import Task, Usage
from tests.helpers.paths import HELPERS, ROOT

TINY = workloads.ppo_workload("tiny", "CartPole-v1", n_envs=2, rollouts=1, samples=64, n_epochs=2)


class FakeProcess:
    """A participant on a machine whose speed doubles with each run."""

    order: list[str]
    stopped: list[str]

    def __init__(self, name: str, speeds: list[float], fails_at: int | None = None, error: type = ParticipantFailed) -> None:
        self.name, self.speeds, self.fails_at, self.error = name, speeds, fails_at, error
        self.turn = -1

    def run(self, rollouts: int) -> TimedRun:
        type(self).order.append(self.name)
        self.turn += 1
        if self.turn == self.fails_at:
            raise self.error("out of order")
        speed = self.speeds[self.turn] * 2**self.turn
        return TimedRun(100, 100 / speed, rollouts, 0.4, 0.6, 0.5)

    def usage(self) -> Usage:
        return Usage(100.0, 1, [])

    def stop(self) -> None:
        type(self).stopped.append(self.name)


@pytest.fixture
def fakes() -> Callable[..., dict[str, Result]]:
    """A function that runs a contest of fake processes."""
    FakeProcess.order, FakeProcess.stopped = [], []

    def run(repeats: int, *processes: FakeProcess) -> dict[str, Result]:
        by_name = {process.name: process for process in processes}
        return take_turns(list(by_name), repeats, 1, lambda name, _: by_name[name], contextlib.nullcontext)

    return run


def test_participants_take_turns_and_ratios_are_those_of_each_repeat(fakes: Callable[..., dict[str, Result]]) -> None:
    reference = FakeProcess("sb3", [1.0, 100.0, 100.0, 100.0])
    results = fakes(3, reference, FakeProcess("eager", [0.0001, 300.0, 200.0, 250.0]), FakeProcess("floor", [1.0] * 4))
    warm_up, *repeats = (FakeProcess.order[i : i + 3] for i in range(0, 12, 3))
    assert warm_up == ["sb3", "eager", "floor"]
    assert repeats == [["sb3", "eager", "floor"], ["eager", "floor", "sb3"], ["floor", "sb3", "eager"]]
    assert results["eager"].ratios(results["sb3"]) == pytest.approx([3.0, 2.0, 2.5])
    assert results["sb3"].ratios(results["sb3"]) == [1.0] * 3
    assert tables.ratio_text(results["eager"].ratios(results["sb3"])) == "2.50 (2.00 to 3.00)"
    assert results["eager"].steps_per_second == pytest.approx(200.0 * 2**2)
    assert sorted(FakeProcess.stopped) == ["eager", "floor", "sb3"]


def test_a_participant_that_fails_runs_no_more(fakes: Callable[..., dict[str, Result]]) -> None:
    results = fakes(3, FakeProcess("sb3", [1.0] * 4), FakeProcess("eager", [2.0] * 4, fails_at=2))
    assert results["eager"].failure == "out of order" and results["sb3"].failure is None
    assert FakeProcess.order.count("eager") == 3 and len(results["sb3"].runs) == 3
    assert results["eager"].ratios(results["sb3"]) == [2.0]
    row = tables.contest_row(tables.Contest(TINY, results).figures("eager"))
    assert row[:2] == ("crashalgos, eager", "failed: out of order") and len(row) == 7


def test_an_interrupt_leaves_no_process_behind(fakes: Callable[..., dict[str, Result]]) -> None:
    with pytest.raises(KeyboardInterrupt):
        fakes(2, FakeProcess("sb3", [1.0] * 3), FakeProcess("eager", [1.0] * 3, fails_at=1, error=KeyboardInterrupt))
    assert sorted(FakeProcess.stopped) == ["eager", "sb3"]


def test_the_arithmetic_of_an_update() -> None:
    arguments: dict[str, Any] = {"policy_kwargs": {"net_arch": [8, 16]}, "n_steps": 32, "batch_size": 8, "n_epochs": 3}
    forward = floor.minibatch_products(SB3PPO("MlpPolicy", "CartPole-v1", device="cpu", **arguments))
    # Actor and critic: 4 → 8 → 16 → 2 and 4 → 8 → 16 → 1.
    sizes = [(8, 4, 8, False)] * 2 + [(8, 8, 16, True)] * 2 + [(8, 16, 1, True), (8, 16, 2, True)]
    assert sorted((p.m, p.k, p.n, p.hidden) for p in forward) == sorted(sizes)
    largest = floor.largest_hidden(forward)
    assert (largest.k, largest.n) == (8, 16)
    # One sample forwards: 2·2·4·8 = 128 in the first layers, 2·2·8·16 = 512 in the second, 2·16·(2 + 1) = 96 in the heads.
    # With the backward pass: 2·128 + 3·512 + 3·96 = 2080, and 3 epochs go over 32 samples.
    assert floor.update_flops(forward, n_samples=32, batch_size=8, n_epochs=3) == 2080 * 32 * 3
    assert floor.matrix_rate(largest, th.device("cpu")) > 0


def test_the_arithmetic_of_a_convolution() -> None:
    layer = th.nn.Conv2d(4, 32, kernel_size=8, stride=4)

    class Policy(th.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def evaluate_actions(self, observations: th.Tensor, actions: th.Tensor) -> th.Tensor:
            return self.layer(observations)

    # 20 × 20 places a picture, each with a patch of 4·8·8 numbers
    expected = floor.MatrixProduct(3 * 400, 256, 32, hidden=False)
    assert floor.forward_products(Policy(), th.zeros(3, 4, 84, 84), th.zeros(3)) == [expected]
    assert expected.flops == 2 * 1200 * 256 * 32


def test_the_plain_loop_makes_the_step_of_reinforce() -> None:
    loop = PlainLoop("CartPole-v1", n_trajectories=3)
    sgd: dict[str, Any] = {"policy_kwargs": {"net_arch": [64, 64], "optimizer_class": th.optim.SGD}, "learning_rate": 1e-4}
    model = REINFORCE("MlpPolicy", "CartPole-v1", n_trajectories=3, seed=0, device="cpu", **sgd)
    loop.optimizer = th.optim.SGD(loop.policy.parameters(), lr=1e-4)
    mine = dict(zip(loop.policy.state_dict(), model.policy.state_dict().values(), strict=True))
    before = {name: value.clone() for name, value in mine.items()}
    loop.policy.load_state_dict(before)
    model.learn(1)

    sample = model.rollout_buffer
    loop.observations = list(np.asarray(sample.observations, dtype=np.float32).reshape(-1, 4))
    loop.actions = [int(action) for action in np.asarray(sample.actions).flatten()]
    lengths = np.asarray(sample.lengths)
    loop.returns = [r for length in lengths for r in discounted_returns([1.0] * int(length), 0.99)]
    loop.train()
    for name, value in loop.policy.state_dict().items():
        step = value - before[name]
        assert step.abs().max() > 0
        th.testing.assert_close(step, mine[name] - before[name], rtol=1e-3, atol=1e-6)


def test_returns_of_the_plain_loop() -> None:
    # R_3 = 4, R_2 = 2 + 4/2, R_1 = 1 + 4/2
    assert discounted_returns([1.0, 2.0, 4.0], 0.5) == [3.0, 4.0, 4.0]


def test_the_fixed_policy_is_the_same_for_all_and_lasts_about_200_steps() -> None:
    loop = PlainLoop("CartPole-v1", n_trajectories=1)
    model = REINFORCE("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [64, 64]}, device="cpu")
    for policy in (loop.policy, model.policy):
        set_fixed_weights(policy)
    observations = th.randn(20, 4)
    with th.no_grad():
        probs = loop.policy(observations).softmax(dim=-1)
        th.testing.assert_close(model.policy.get_distribution(observations).distribution.probs, probs)  # type: ignore[union-attr]

    # 200 envs side by side: the mean's standard error is about 7.
    envs = gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 200)
    rng = np.random.default_rng(0)
    states, _ = envs.reset(seed=0)
    running, steps = np.ones(200, dtype=bool), 0
    while running.any():
        steps += int(running.sum())
        with th.no_grad():
            right = loop.policy(th.as_tensor(states)).softmax(dim=-1)[:, 1].numpy()
        states, _, terminated, truncated, _ = envs.step((rng.random(200) < right).astype(int))
        running &= ~(terminated | truncated)
    assert 160 < steps / 200 < 240


def test_steps_of_the_sample_count() -> None:
    participant = make_participant("eager", workloads.reinforce_workload(4, n_trajectories=5))
    assert isinstance(participant, ModelParticipant)
    run = participant.run(1)
    model = participant.model
    assert run.steps == model.rollout_buffer.size() == sum(model.rollout_buffer.lengths) < model.num_timesteps
    assert run.rollouts == 1 and 0 < run.first_update_seconds <= run.seconds
    # Nothing of the measurement stays on the model.
    assert not {"train", "collect_rollouts"} & set(vars(model))

    plain = make_participant("plain", workloads.reinforce_workload(4, n_trajectories=2))
    assert isinstance(plain, PlainParticipant)
    assert plain.run(1).steps == len(plain.loop.actions)


def test_a_small_benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(workloads.WORKLOADS, "tiny", TINY)
    command = ["--workloads", "tiny", "--contenders", "eager", "--repeats", "2", "--steps", "65", "--threads", "1"]
    assert benchmark.main([*command, "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert {"cpu", "cores", "versions", "git_commit"} <= set(content["machine"])
    assert content["settings"]["repeats"] == 2
    tiny = content["workloads"]["tiny"]
    assert tiny["reference"] == "sb3" and set(tiny["contenders"]) == {"sb3", "eager"}
    for row in tiny["contenders"].values():
        assert row["failure"] is None and len(row["trainings"]) == len(row["ratio"]["each"]) == 2
        # Two rollouts of 64 steps are the least that has 65.
        assert all(training["steps"] == 128 and training["rollouts"] == 2 for training in row["trainings"])
        assert all(t["rollout_seconds"] + t["update_seconds"] <= t["seconds"] for t in row["trainings"])
        assert row["first_update_seconds"] > 0 and row["usage"]["peak_mb"] > 50 and row["usage"]["threads"] == 1
    assert tiny["contenders"]["sb3"]["ratio"]["each"] == [1.0, 1.0]
    markdown = (tmp_path / "benchmark.md").read_text(encoding="utf-8")
    assert "## tiny" in markdown and "| crashalgos, eager |" in markdown


@pytest.mark.slow
def test_processes_that_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(HELPERS)
    workload = workloads.ppo_workload("failing", "failing_env:Failing-v0", n_envs=1, rollouts=1, samples=64, n_epochs=1)
    log = tmp_path / "log"
    results = contest.run_contest(workload, ("sb3", "eager", "floor"), 1, log, 1, "cpu", contextlib.nullcontext)
    assert results["eager"].failure == "RuntimeError: this env fails"
    assert results["floor"].failure == "its process ended with exit status 3"
    assert results["sb3"].failure is None and len(results["sb3"].runs) == 1
    assert "RuntimeError: this env fails" in log.read_text(encoding="utf-8")


def test_an_answer_has_a_time_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(contest, "ANSWER_TIMEOUT", 0.01)
    stopped: list[ParticipantProcess] = []
    stop = ParticipantProcess.stop
    monkeypatch.setattr(ParticipantProcess, "stop", lambda self: (stop(self), stopped.append(self)))
    with pytest.raises(ParticipantFailed, match=r"no answer within 0\.01 seconds"):
        ParticipantProcess(Task("sb3", TINY, tmp_path / "log"))
    assert not stopped[0].process.is_alive()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--workloads cartpol-8", "unknown workload 'cartpol-8'; did you mean 'cartpole-8'?"),
        ("--contenders eagre", "unknown contender 'eagre'; did you mean 'eager'?"),
        ("--repeats 0", "--repeats must be at least 1, got 0"),
        ("--steps -5", "--steps must be at least 1, got -5"),
        ("--threads 0", "--threads must be at least 1, got 0"),
        ("--growth-repeats 0", "--growth-repeats must be at least 1, got 0"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, message: str) -> None:
    assert benchmark.main([*command.split(), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"benchmark.py: error: {message}") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_unavailable_workloads_and_participants_are_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "is_installed", lambda module: module != "sbx")

    def check_available(workload: workloads.Workload) -> None:
        if "HalfCheetah" in workload.env:
            raise ValueError('pip install "crashalgos[envs]"')

    monkeypatch.setattr(workloads, "check_available", check_available)
    notes: list[str] = []
    plan = benchmark.make_plan(benchmark.BenchmarkOptions(growth=True), notes)
    assert notes == [
        "SBX's PPO is left out, because it is not installed: pip install sbx-rl",
        'halfcheetah-4 is left out: pip install "crashalgos[envs]"',
    ]
    participants = {planned.name: planned.participants for planned in plan}
    assert participants["cartpole-8"] == ("sb3", "eager", "compiled", "floor")
    assert participants["reinforce-20"] == ("plain", "eager", "compiled")
    assert participants["envs"] == participants["hidden width"] == ("sb3", "eager", "compiled")
    grown = [(planned.name, planned.value) for planned in plan if planned.value is not None]
    assert [value for name, value in grown if name == "envs"] == [1, 2, 4, 8, 16, 32, 64]
    assert all(planned.repeats == (5 if planned.value is None else 2) for planned in plan)


def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "measure", interrupted)
    assert benchmark.main(["--workloads", "cartpole-8", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == f"interrupted; what was measured so far is in {tmp_path}\n"
    assert json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))["workloads"] == {}


@pytest.mark.slow
def test_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.benchmark", "--workloads", "cartpole-8", "--out", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background process ignores Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        # A participant's process makes this file.
        while not (tmp_path / "workers.log").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        # A terminal sends Ctrl-C to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert f"interrupted; what was measured so far is in {tmp_path}" in errors and "Traceback" not in errors


def test_imports_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def seconds_to_import(module: str) -> float:
        order.append(module)
        return {"a": 2.0, "b": 3.0}[module]

    monkeypatch.setattr(contest, "_seconds_to_import", seconds_to_import)
    seconds = contest.time_imports(("a", "b"), contextlib.nullcontext)
    assert seconds == {"a": [2.0] * contest.N_IMPORTS, "b": [3.0] * contest.N_IMPORTS}
    assert order[:6] == ["b", "a", "a", "b", "b", "a"]
    assert tables.import_table(seconds).rows[1] == ("import b", "1.50 (1.50 to 1.50)", "3.000")


def test_everything_is_shown_and_written(
    fakes: Callable[..., dict[str, Result]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    contests: list[tuple[str, int, int]] = []

    def run_contest(workload: workloads.Workload, names: tuple[str, ...], repeats: int, *_: Any) -> dict[str, Result]:
        contests.append((workload.title, workload.rollouts, repeats))
        # The compiled participant fails with two envs.
        fails_at = 1 if workload.n_envs == 2 else None
        processes = [FakeProcess(name, [100.0, 100.0, 100.0]) for name in names if name != "compiled"]
        return fakes(repeats, *processes, FakeProcess("compiled", [250.0] * 3, fails_at))

    monkeypatch.setattr(contest, "run_contest", run_contest)
    monkeypatch.setattr(contest, "_seconds_to_import", lambda module: 2.0)
    monkeypatch.setattr(workloads, "WORKLOADS", {"cartpole-8": workloads.WORKLOADS["cartpole-8"]})
    monkeypatch.setattr(workloads, "GROWTH", {"envs": {n: workloads.GROWTH["envs"][n] for n in (1, 2)}})
    command = ["--growth", "--growth-repeats", "1", "--repeats", "2", "--out", str(tmp_path)]
    assert benchmark.main(command) == 1
    assert contests == [
        ("PPO, CartPole-v1, 8 envs × 256", 5, 2),
        ("PPO, CartPole-v1, 1 env", 2, 1),
        ("PPO, CartPole-v1, 2 envs", 2, 1),
    ]
    failure = "PPO, CartPole-v1, 2 envs: crashalgos, compiled: out of order"
    markdown = (tmp_path / "benchmark.md").read_text(encoding="utf-8")
    assert "| crashalgos, compiled | 2.50 (2.50 to 2.50) |" in markdown
    assert "| import crashalgos | 1.00 (1.00 to 1.00) | 2.000 |" in markdown
    assert (
        "| 1 | 200 (1.00) | 200 (1.00) | 500 (2.50) |" in markdown and "| 2 | 200 (1.00) | 200 (1.00) | failed |" in markdown
    )
    assert f"- {failure}" in markdown and failure in capsys.readouterr().out
    content = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    assert content["failures"] == [failure]
    assert content["growth"]["envs"]["1"]["contenders"]["compiled"]["ratio"]["each"] == [2.5]
    assert content["import_seconds"]["crashalgos"] == [2.0] * contest.N_IMPORTS
