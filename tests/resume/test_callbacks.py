import csv
import errno
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EveryNTimesteps
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.logger import CSVOutputFormat, HumanOutputFormat, JSONOutputFormat, Logger, configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from crashalgos import PPO, REINFORCE, BaselinePG
from crashalgos.resume import CheckpointError, RenewableVecEnv, RestartCallback, ResumeCallback
from crashalgos.resume.state import is_plain
from tests.helpers.paths import ROOT

TOTAL, FREQ = 2_000, 500


class Killed(BaseException):
    """What ends a training that cannot be asked."""


class Kill(BaseCallback):
    """Ends the training at a step; a function, because plain attributes are restored."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.due = lambda: self.num_timesteps >= at

    def _on_step(self) -> bool:
        if self.due():
            raise Killed
        return True


class Count(BaseCallback):
    """Counts what it is told, in attributes that are plain."""

    def __init__(self) -> None:
        super().__init__()
        self.starts, self.ends, self.rewards = 0, 0, []

    def _on_rollout_start(self) -> None:
        self.starts += 1

    def _on_rollout_end(self) -> None:
        self.ends += 1

    def _on_step(self) -> bool:
        self.rewards.append(float(self.locals["rewards"].sum()))
        return True


def cartpole(n_envs: int = 4) -> VecEnv:
    return make_vec_env("CartPole-v1", n_envs, seed=3)


def pendulum() -> VecEnv:
    return VecNormalize(make_vec_env("Pendulum-v1", 4, seed=3), gamma=0.9)


def walker() -> VecEnv:
    return make_vec_env("BipedalWalker-v3", 2, seed=3, vec_env_cls=RenewableVecEnv)


def maze() -> VecEnv:
    np.random.seed(0)  # its constructor draws the images
    return make_vec_env(SimpleMultiObsEnv, 2, seed=3)


def decay(progress: float) -> float:
    return 1e-3 * max(progress, 0.0)


SMALL: dict[str, Any] = dict(n_steps=64, batch_size=64, n_epochs=2)
MODELS: dict[str, Callable[[], BaseAlgorithm]] = {
    "ppo": lambda: PPO("MlpPolicy", cartpole(), learning_rate=decay, seed=3, **SMALL),
    "ppo, gSDE, VecNormalize": lambda: PPO("MlpPolicy", pendulum(), use_sde=True, sde_sample_freq=4, seed=3, **SMALL),
    "ppo, trajectories": lambda: PPO("MlpPolicy", cartpole(), n_trajectories=5, batch_size=32, n_epochs=2, seed=3),
    "ppo, images in a dict": lambda: PPO("MultiInputPolicy", maze(), n_steps=64, n_epochs=1, batch_size=128, seed=3),
    "ppo, BipedalWalker": lambda: PPO("MlpPolicy", walker(), seed=3, **SMALL),
    "reinforce": lambda: REINFORCE("MlpPolicy", cartpole(), n_trajectories=5, learning_rate=decay, seed=3),
    "baseline_pg, VecNormalize": lambda: BaselinePG("MlpPolicy", VecNormalize(cartpole()), n_trajectories=5, seed=3),
}


def learn(make: Callable[[], BaseAlgorithm], folder: Path, kill_at: int | None = None, **options: Any) -> BaseAlgorithm:
    """One process's part of a training in ``folder``."""
    # Nothing that was drawn before counts
    th.manual_seed(os.getpid() + (kill_at or 0))
    random.random()
    model = make()
    model.set_logger(configure(str(folder), ["csv"]))
    counts = Count()
    callbacks = [ResumeCallback(folder / "checkpoint.pt", FREQ), CallbackList([EveryNTimesteps(300, counts)])]
    try:
        model.learn(TOTAL, callback=callbacks + ([] if kill_at is None else [Kill(kill_at)]), log_interval=2, **options)
    except Killed:
        pass
    model.logger.dump(model.num_timesteps)
    model.logger.close()
    model.counts = counts  # type: ignore[attr-defined]
    return model


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k not in ("time/fps", "time/time_elapsed")} for row in csv.DictReader(file)]


def everything(model: BaseAlgorithm) -> dict[str, Any]:
    normalization = model.get_vec_normalize_env()
    return {
        "parameters": model.get_parameters(),
        "windows": [(episode["r"], episode["l"]) for episode in model.ep_info_buffer or ()],
        "counters": (model.num_timesteps, model._n_updates, model._current_progress_remaining),  # type: ignore[attr-defined]
        "normalization": None if normalization is None else (normalization.obs_rms.mean, normalization.ret_rms.var),
        "callback": (model.counts.starts, model.counts.ends, model.counts.rewards, model.counts.n_calls),  # type: ignore[attr-defined]
        "random": (random.getstate()[1][:3], np.random.get_state()[1].tolist(), th.get_rng_state()),  # type: ignore[index,union-attr]
    }


def assert_equal(actual: Any, expected: Any, where: str = "") -> None:
    assert type(actual) is type(expected), where
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys(), where
        for key in expected:
            assert_equal(actual[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected), where
        for i, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_equal(one, other, f"{where}[{i}]")
    elif isinstance(expected, th.Tensor):
        assert th.equal(actual.cpu(), expected.cpu()), where  # Adam counts its steps on either device
    elif isinstance(expected, np.ndarray):
        assert np.array_equal(actual, expected), where
    else:
        assert actual == expected, where


SLOW = ("ppo, images in a dict", "ppo, BipedalWalker")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in MODELS])
def test_a_training_that_is_killed_ends_as_one_that_is_not(name: str, tmp_path: Path) -> None:
    undisturbed = learn(MODELS[name], tmp_path / "undisturbed")
    # Before the first checkpoint, between two, and twice after the same one, within a rollout and at its end
    for kill_at in (250, 1_100, 1_500, 1_800):
        learn(MODELS[name], tmp_path / "killed", kill_at)
    killed = learn(MODELS[name], tmp_path / "killed")
    assert_equal(everything(killed), everything(undisturbed))
    expected = rows(tmp_path / "undisturbed" / "progress.csv")
    assert rows(tmp_path / "killed" / "progress.csv") == expected
    # Every second iteration, the resumed ones included, and the last update's figures
    iterations = [int(row["time/iterations"]) for row in expected if row["time/iterations"]]
    assert iterations == [*range(2, 2 * len(iterations) + 1, 2)] and len(iterations) >= 2


def test_checkpoints_restart_the_envs_in_both(tmp_path: Path) -> None:
    # What makes equality possible has a price, and the docs say so
    plain = MODELS["ppo"]().learn(TOTAL)
    undisturbed = learn(MODELS["ppo"], tmp_path)
    assert not th.equal(next(plain.policy.parameters()), next(undisturbed.policy.parameters()))


@pytest.mark.slow
def test_a_program_that_is_killed_is_simply_started_again(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "import torch\n"
        "from stable_baselines3.common.callbacks import EveryNTimesteps\n"
        "from crashalgos import PPO\n"
        "from crashalgos.resume import ResumeCallback\n"
        "class Die(EveryNTimesteps):\n"
        "    def _on_event(self):\n"
        "        os.kill(os.getpid(), 9)\n"
        "torch.set_num_threads(1)\n"
        "model = PPO('MlpPolicy', 'CartPole-v1', n_steps=128, n_epochs=2, seed=0)\n"
        "callbacks = [ResumeCallback(sys.argv[1], checkpoint_freq=500)]\n"
        "if len(sys.argv) > 3:\n"
        "    callbacks.append(Die(int(sys.argv[3]), None))\n"
        "model.learn(1_500, callback=callbacks)\n"
        "model.save(sys.argv[2])\n"
    )

    def start(*arguments: str) -> int:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, str(program), *arguments], cwd=tmp_path, env=environment, timeout=120
        ).returncode

    assert start("a.checkpoint", "a.zip") == 0
    assert start("b.checkpoint", "b.zip", "1_100") == -signal.SIGKILL
    assert not (tmp_path / "b.zip").exists()
    assert start("b.checkpoint", "b.zip") == 0
    a, b = (PPO.load(tmp_path / name).get_parameters() for name in ("a.zip", "b.zip"))
    assert_equal(b, a)


STANDARD_ENVS = [
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "LunarLander-v3",
    "LunarLanderContinuous-v3",
    "BipedalWalker-v3",
    "BipedalWalkerHardcore-v3",
    "FrozenLake-v1",
    "Taxi-v4",
    "CliffWalking-v1",
    "Blackjack-v1",
    "Ant-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
]


@pytest.mark.parametrize("env_id", STANDARD_ENVS)
def test_envs_that_restart_are_like_new_ones(env_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings into the working directory
    used, new = (make_vec_env(env_id, 1, seed=seed, vec_env_cls=RenewableVecEnv) for seed in (1, 2))
    used.action_space.seed(0)
    actions = [np.array([used.action_space.sample()]) for _ in range(150)]
    used.reset()
    for action in actions[::-1][:67]:
        used.step(action)
    used.unwrapped.renew()  # type: ignore[attr-defined]
    for env in (used, new):
        env.seed(77)
    assert_equal(used.reset(), new.reset())
    for action in actions:
        assert_equal(used.step(action)[:3], new.step(action)[:3])


def test_why_envs_are_renewed() -> None:
    # If this fails, BipedalWalker's reset forgets its past, and `RenewableVecEnv` has no reason any more
    used, new = (make_vec_env("BipedalWalker-v3", 1, seed=seed) for seed in (1, 2))
    assert type(used) is DummyVecEnv
    used.action_space.seed(0)
    actions = [np.array([used.action_space.sample()]) for _ in range(700)]
    used.reset()
    for action in actions[::-1][:137]:
        used.step(action)
    for env in (used, new):
        env.seed(77)
        env.reset()
    assert any(not np.array_equal(used.step(action)[0], new.step(action)[0]) for action in actions)


def test_ppo_that_restarts_its_envs_is_still_sb3s(tmp_path: Path) -> None:
    options: dict[str, Any] = dict(seed=3, n_steps=32, batch_size=64, n_epochs=2)
    ours = PPO("MlpPolicy", cartpole(), **options).learn(TOTAL, callback=ResumeCallback(tmp_path / "checkpoint.pt", FREQ))
    sb3s = stable_baselines3.PPO("MlpPolicy", cartpole(), **options).learn(TOTAL, callback=RestartCallback(FREQ))
    plain = stable_baselines3.PPO("MlpPolicy", cartpole(), **options).learn(TOTAL)
    assert_equal(dict(ours.policy.state_dict()), dict(sb3s.policy.state_dict()))
    assert not th.equal(next(plain.policy.parameters()), next(sb3s.policy.parameters()))


def test_a_continued_training_resumes_on_its_own_horizon(tmp_path: Path) -> None:
    MODELS["ppo"]().learn(512).save(tmp_path / "first")
    weights = []
    for kill_at in (None, 1_500):
        path = tmp_path / f"{kill_at}.pt"
        for at in [kill_at, None] if kill_at else [None]:
            model = PPO.load(tmp_path / "first", env=cartpole(), custom_objects={"seed": 3})
            model.set_random_seed(3)
            callbacks = [ResumeCallback(path, FREQ)] + ([Kill(at)] if at else [])
            try:
                model.learn(TOTAL, callback=callbacks, reset_num_timesteps=False)
            except Killed:
                pass
        assert model._total_timesteps == 512 + TOTAL <= model.num_timesteps
        weights.append(model.get_parameters())
    assert_equal(weights[1], weights[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(gamma=0.5), "gamma was 0.99, is 0.5"),
        (dict(seed=4), "seed was 3, is 4"),
        (dict(clip_range=0.3), "clip_range was 0.2, is 0.3"),
        (dict(policy_kwargs=dict(activation_fn=th.nn.ReLU)), "policy_kwargs was {}, is {'activation_fn': 'ReLU'}"),
        (dict(env_id="CartPole-v0"), "env.id was 'CartPole-v1', is 'CartPole-v0'"),
        (dict(total_timesteps=TOTAL + 1), "total_timesteps was 2000, is 2001"),
        (dict(checkpoint_freq=400), "checkpoint_freq was 500, is 400"),
        (dict(n_envs=2), "env.n_envs was 4, is 2"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_by_name(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    def train(
        total_timesteps: int = TOTAL,
        checkpoint_freq: int = FREQ,
        n_envs: int = 4,
        env_id: str = "CartPole-v1",
        **options: Any,
    ) -> None:
        env = make_vec_env(env_id, n_envs, seed=3)
        model = PPO("MlpPolicy", env, **{"seed": 3, **SMALL, **options})  # type: ignore[arg-type]
        model.learn(total_timesteps, callback=[ResumeCallback(tmp_path / "checkpoint.pt", checkpoint_freq), Kill(800)])

    with pytest.raises(Killed):
        train()
    with pytest.raises(CheckpointError) as caught:
        train(**change)
    assert f"is of another training ({message}): delete it, or use another file" in str(caught.value)


def test_what_it_does_not_serve(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`checkpoint_freq` must be a whole number of at least 1, got 0"):
        ResumeCallback(tmp_path / "checkpoint.pt", 0)
    with pytest.raises(ValueError, match="is for REINFORCE, BaselinePG and PPO of crashalgos"):
        stable_baselines3.PPO("MlpPolicy", cartpole()).learn(100, callback=ResumeCallback(tmp_path / "checkpoint.pt", FREQ))
    unwilling = make_vec_env("CartPole-v1", 2, monitor_kwargs=dict(allow_early_resets=False))
    with pytest.raises(ValueError, match=r"Monitor\(allow_early_resets=False\) cannot be reset .* at a checkpoint"):
        PPO("MlpPolicy", unwilling).learn(100, callback=ResumeCallback(tmp_path / "checkpoint.pt", FREQ))
    callback = ResumeCallback(tmp_path / "checkpoint.pt", 10**6)
    model = MODELS["ppo"]().learn(100, callback=callback)
    with pytest.raises(ValueError, match="serves one `learn`"):
        model.learn(100, callback=callback)


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_text("something else")
    with pytest.raises(ValueError, match=r"checkpoint\.pt' cannot be read .*: delete it to start anew"):
        learn(MODELS["ppo"], tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = learn(MODELS["ppo"], tmp_path / "undisturbed")
    learn(MODELS["ppo"], tmp_path / "full", kill_at=800)
    before = (tmp_path / "full" / "checkpoint.pt").read_bytes()

    def write_bytes(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(OSError, match="No space left on device"):
            learn(MODELS["ppo"], tmp_path / "full")
    assert (tmp_path / "full" / "checkpoint.pt").read_bytes() == before
    assert {path.name for path in (tmp_path / "full").iterdir()} == {"checkpoint.pt", "progress.csv"}
    assert_equal(everything(learn(MODELS["ppo"], tmp_path / "full")), everything(undisturbed))


def test_what_a_callback_changed_is_kept_and_what_is_free_is_not(tmp_path: Path) -> None:
    class Anneal(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            self.model.ent_coef = 0.5 * self.model.ent_coef  # type: ignore[attr-defined]

    def train(kill_at: int, **options: Any) -> PPO:
        model = PPO("MlpPolicy", cartpole(), seed=3, ent_coef=1.0, **SMALL, **options)
        callbacks = [ResumeCallback(tmp_path / f"{kill_at}.pt", FREQ), Anneal(), Kill(kill_at)]
        try:
            model.learn(TOTAL, callback=callbacks)
        except Killed:
            pass
        return model

    assert train(1_100).ent_coef == 0.5**4
    # It resumes at 1,024 steps, with four rollouts behind it; three more end before 1,900
    path = tmp_path / "1100.pt"
    path.rename(tmp_path / "1900.pt")
    model = train(1_900, verbose=2)
    assert model.ent_coef == 0.5**7 and model.verbose == 2


def test_a_progress_bar_comes_and_goes(tmp_path: Path) -> None:
    undisturbed = learn(MODELS["ppo"], tmp_path / "undisturbed")
    learn(MODELS["ppo"], tmp_path / "killed", 1_100, progress_bar=True)
    assert_equal(everything(learn(MODELS["ppo"], tmp_path / "killed")), everything(undisturbed))


def test_each_file_of_a_logger_gets_its_own_content(tmp_path: Path) -> None:
    class Some(CSVOutputFormat):
        """Writes one figure alone."""

        def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
            super().write({"n": key_values.get("train/n_updates", "")}, {"n": ()}, step)

    def part(folder: Path, kill_at: int) -> None:
        folder.mkdir(exist_ok=True)
        model = MODELS["ppo"]()
        names = ("progress.csv", "some.csv", "progress.json", "log.txt")
        kinds = (CSVOutputFormat, Some, JSONOutputFormat, HumanOutputFormat)
        outputs = [kind(str(folder / name)) for kind, name in zip(kinds, names, strict=True)]
        outputs.append(CSVOutputFormat(str(folder / "again.csv")))
        model.set_logger(Logger(None, outputs))
        try:
            model.learn(TOTAL, callback=[ResumeCallback(folder / "checkpoint.pt", FREQ), Kill(kill_at)])
        except Killed:
            pass
        model.logger.close()

    part(tmp_path / "whole", 10**6)
    for kill_at in (900, 10**6):
        part(tmp_path / "killed", kill_at)
    for name in ("progress.csv", "some.csv", "again.csv"):
        assert rows(tmp_path / "killed" / name) == rows(tmp_path / "whole" / name), name
    counts = [
        (tmp_path / place / name).read_text().count("\n")
        for name in ("progress.json", "log.txt")
        for place in ("whole", "killed")
    ]
    assert counts[0] == counts[1] == 8 and counts[2] == counts[3]


def test_a_log_can_be_dumped_by_hand() -> None:
    written: list[int] = []
    model = MODELS["ppo"]().learn(512, log_interval=None)
    model.dump_logs = lambda *args: [written.append(1), type(model).dump_logs(model, *args)]  # type: ignore[method-assign]
    model.dump_logs()  # type: ignore[call-arg]
    assert written == [1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "reinforce"])
def test_a_compiled_training_that_is_killed(name: str, tmp_path: Path) -> None:
    # A process for each part: each compiles, or finds, its own graphs
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from crashalgos import PPO, REINFORCE\n"
        "from tests.resume.test_callbacks import SMALL, cartpole, learn\n"
        "ppo = lambda: PPO('MlpPolicy', cartpole(), seed=3, compile=True, **SMALL)\n"
        "reinforce = lambda: REINFORCE('MlpPolicy', cartpole(), n_trajectories=5, seed=3, compile=True)\n"
        "folder, name, kill_at = sys.argv[1:]\n"
        "model = learn(dict(ppo=ppo, reinforce=reinforce)[name], Path(folder), int(kill_at) or None)\n"
        "del model.counts\n"
        "model.save(Path(folder) / 'model')\n"
    )

    def part(folder: str, kill_at: int) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", program, str(tmp_path / folder), name, str(kill_at)]
        assert subprocess.run(command, cwd=tmp_path, env=environment, timeout=250).returncode == 0

    part("whole", 0)
    for kill_at in (900, 1_400, 0):
        part("killed", kill_at)
    algorithm = PPO if name == "ppo" else REINFORCE
    whole, killed = (algorithm.load(tmp_path / folder / "model").get_parameters() for folder in ("whole", "killed"))
    assert_equal(killed, whole)


def test_without_a_seed_it_resumes_all_the_same(tmp_path: Path) -> None:
    def make() -> BaseAlgorithm:
        return PPO("MlpPolicy", cartpole(), **SMALL)

    learn(make, tmp_path, kill_at=1_100)
    model = learn(make, tmp_path)
    assert [int(row["time/total_timesteps"]) for row in rows(tmp_path / "progress.csv") if row["time/total_timesteps"]] == [
        512,
        1024,
        1536,
        2048,
    ]
    assert model.num_timesteps == 2048


@pytest.mark.parametrize(
    ("value", "plain"),
    [(1, True), ({"a": [1.0, np.zeros(2)]}, True), (None, True), (gym, False), ([th.zeros(1)], False), (len, False)],
)
def test_what_is_plain(value: Any, plain: bool) -> None:
    assert is_plain(value) is plain
