"""A run that is killed and resumed ends with the weights of one that is not."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from crashalgos import PPO, REINFORCE
from crashalgos.resume import CheckpointError, RestartCallback, ResumeCallback
from tests.helpers.kill import Kill, Killed
from tests.helpers.paths import ROOT
from tests.helpers.resuming import FREQ, MODELS, SMALL, TOTAL, assert_equal, cartpole, everything, learn, rows

SLOW = ("ppo, images in a dict", "ppo, BipedalWalker")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in MODELS])
def test_a_run_that_is_killed_ends_as_one_that_is_not(name: str, tmp_path: Path) -> None:
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


def test_ppo_that_restarts_its_envs_is_still_sb3s(tmp_path: Path) -> None:
    options: dict[str, Any] = dict(seed=3, n_steps=32, batch_size=64, n_epochs=2)
    ours = PPO("MlpPolicy", cartpole(), **options).learn(TOTAL, callback=ResumeCallback(tmp_path / "checkpoint.pt", FREQ))
    sb3s = stable_baselines3.PPO("MlpPolicy", cartpole(), **options).learn(TOTAL, callback=RestartCallback(FREQ))
    plain = stable_baselines3.PPO("MlpPolicy", cartpole(), **options).learn(TOTAL)
    assert_equal(dict(ours.policy.state_dict()), dict(sb3s.policy.state_dict()))
    assert not th.equal(next(plain.policy.parameters()), next(sb3s.policy.parameters()))


def test_a_continued_run_resumes_on_its_own_horizon(tmp_path: Path) -> None:
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
def test_a_checkpoint_of_another_run_is_refused_by_name(change: dict[str, Any], message: str, tmp_path: Path) -> None:
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "reinforce"])
def test_a_compiled_run_that_is_killed(name: str, tmp_path: Path) -> None:
    # A process for each part: each compiles, or finds, its own graphs
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from crashalgos import PPO, REINFORCE\n"
        "from tests.helpers.resuming import SMALL, cartpole, learn\n"
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
