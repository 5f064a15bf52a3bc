"""Models and checkpoints saved before the modules were moved (0.1.0 of November 2026) load, and train on."""

import io
import shutil
import zipfile

import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from crashalgos import PPO, REINFORCE, BaselinePG
from crashalgos.resume import ResumeCallback
from tests.helpers.paths import ROOT
from tests.helpers.trace import identical

SAVED = ROOT / "tests" / "parity" / "saved"
#: File, class, and arguments with which the model was made; all had ``net_arch=[4]`` and two envs of CartPole-v1
MODELS = [
    ("ppo_n_steps", PPO, dict(n_trajectories=None, n_steps=16, batch_size=16, n_epochs=2)),
    ("ppo_n_trajectories", PPO, dict(n_trajectories=3, max_trajectory_steps=50, batch_size=16, n_epochs=2)),
    ("reinforce", REINFORCE, dict(n_trajectories=3, baseline="leave_one_out")),
    ("baseline_pg", BaselinePG, dict(n_trajectories=3, gae_lambda=1.0)),
]


@pytest.mark.parametrize(("name", "algorithm", "arguments"), MODELS)
def test_a_saved_model_loads_and_trains_on(name, algorithm, arguments):
    # The saved schedule ends at 0
    model = algorithm.load(SAVED / name, env=make_vec_env("CartPole-v1", 2), device="cpu", learning_rate=0.01)
    for argument, value in arguments.items():
        assert getattr(model, argument) == value
    with zipfile.ZipFile(SAVED / name) as archive:
        weights = th.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
        moments = th.load(io.BytesIO(archive.read("policy.optimizer.pth")), weights_only=True)
    assert identical(dict(model.policy.state_dict()), dict(weights))
    assert identical(model.policy.optimizer.state_dict()["state"], moments["state"])
    steps, updates = model.num_timesteps, model._n_updates
    model.learn(64, reset_num_timesteps=False)
    assert model.num_timesteps >= steps + 64 and model._n_updates > updates
    assert not identical(dict(model.policy.state_dict()), dict(weights))


class FirstRollout(BaseCallback):
    """Keeps what the model is when its first rollout starts."""

    def _on_rollout_start(self) -> None:
        if not hasattr(self, "steps"):
            self.steps = self.num_timesteps
            self.weights = {name: tensor.clone() for name, tensor in self.model.policy.state_dict().items()}
            self.mean = self.training_env.obs_rms.mean.copy()  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        return True


@pytest.mark.filterwarnings("ignore:The checkpoint is PyTorch")
def test_a_saved_checkpoint_resumes(tmp_path):
    """The run was killed at 112 of 160 steps; its checkpoint is of step 64, after two rollouts of 2 × 16 steps."""
    path = tmp_path / "checkpoint"
    shutil.copy(SAVED / "ppo_checkpoint", path)
    saved = th.load(path, weights_only=False)
    env = VecNormalize(make_vec_env("CartPole-v1", 2))
    settings = dict(n_steps=16, batch_size=16, n_epochs=2, seed=0, device="cpu", policy_kwargs=dict(net_arch=[4]))
    model, first = PPO("MlpPolicy", env, **settings), FirstRollout()
    model.learn(160, callback=[ResumeCallback(path, checkpoint_freq=50), first])
    assert first.steps == 64 and model.num_timesteps == 160
    assert identical(first.weights, dict(saved["parameters"]["policy"]))
    # Observations: 96 of steps, and two at each restart, after the resume and at the checkpoint of step 128
    assert env.obs_rms.count == pytest.approx(saved["normalization"]["obs_rms"].count + 96 + 2 + 2)
    assert model._n_updates == 2 * 160 // 32 and model.logger.name_to_value["train/n_updates"] == 10
