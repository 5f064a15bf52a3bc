"""Wrong arguments: each is refused at construction, by a message that names the argument, the value and the range."""

import math

import pytest
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy

from crashalgos import PPO, REINFORCE, BaselinePG
from crashalgos.common.trajectory_buffers import TrajectoryBuffer
from tests.helpers.envs import of_spaces, scripted

ALL = [REINFORCE, BaselinePG, PPO]
GRADIENT_STEP = [REINFORCE, BaselinePG]


def refused(algorithm, message: str, error=ValueError, policy="MlpPolicy", env=None, **kwargs) -> None:
    with pytest.raises(error, match=message):
        algorithm(policy, env or scripted([[3], [2]]), device="cpu", **kwargs)


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("gamma", [-0.01, 1.01, math.nan, "0.9", None])
def test_gamma(algorithm, gamma):
    refused(algorithm, r"`gamma` must be a number in \[0, 1\], got", gamma=gamma)


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("n_trajectories", [0, -1, 2.5, 2.0, math.nan, "20", True])
def test_n_trajectories(algorithm, n_trajectories):
    refused(algorithm, "`n_trajectories` must be a whole number of at least 1, got", n_trajectories=n_trajectories)


@pytest.mark.parametrize("algorithm", GRADIENT_STEP)
def test_n_trajectories_is_what_a_gradient_step_is_made_from(algorithm):
    refused(algorithm, "`n_trajectories` must be a whole number", n_trajectories=None)


@pytest.mark.parametrize("algorithm", ALL)
def test_common_arguments(algorithm):
    many = dict(n_trajectories=5)
    refused(algorithm, "`max_trajectory_steps` must be a whole number of at least 1, got 0", max_trajectory_steps=0, **many)
    refused(algorithm, "`max_grad_norm` must be a number of at least 0, got -1", max_grad_norm=-1, **many)
    refused(algorithm, "`learning_rate` must be a number of at least 0, got -0.1", learning_rate=-0.1, **many)
    refused(algorithm, "`ent_coef` must be a number that is finite, got inf", ent_coef=math.inf, **many)
    refused(algorithm, "Policy NoPolicy unknown", policy="NoPolicy")


@pytest.mark.parametrize("algorithm", [BaselinePG, PPO])
@pytest.mark.parametrize("gae_lambda", [-0.1, 1.1])
def test_gae_lambda(algorithm, gae_lambda):
    refused(algorithm, r"`gae_lambda` must be a number in \[0, 1\]", gae_lambda=gae_lambda)


def test_reinforce():
    refused(REINFORCE, "`weighting` must be one of 'reward_to_go', 'total_return', got 'returns'", weighting="returns")
    refused(REINFORCE, "`baseline` must be one of 'mean', 'leave_one_out', got 'median'", baseline="median")
    refused(
        REINFORCE, "`n_trajectories` of at least 2, got 1", baseline="leave_one_out", n_trajectories=1, env=scripted([[3]])
    )
    refused(REINFORCE, "`batch_size` must be a whole number of at least 1, got 0", batch_size=0)


def test_a_baseline_of_the_wrong_shape_is_refused_in_training():
    model = REINFORCE("MlpPolicy", scripted([[3]]), n_trajectories=2, baseline=lambda obs: obs[:, :1], device="cpu")
    with pytest.raises(ValueError, match=r"`baseline` must return one value a step, shape \(6,\), got shape \(6, 1\)"):
        model.learn(1)


def test_baseline_pg():
    for name in ("n_value_epochs", "value_batch_size"):
        refused(BaselinePG, f"`{name}` must be a whole number of at least 1, got 0", **{name: 0})
    refused(BaselinePG, "`value_learning_rate` must be a number of at least 0, got -1", value_learning_rate=-1)


def test_policies_with_a_critic_where_there_must_be_none():
    refused(REINFORCE, "got ActorCriticPolicy: REINFORCE has no critic", policy=ActorCriticPolicy)
    refused(BaselinePG, "got ActorCriticPolicy: actor and critic need an optimizer each", policy=ActorCriticPolicy)


def test_an_extractor_with_parameters_cannot_be_shared():
    shared = dict(share_features_extractor=True)
    refused(
        BaselinePG,
        "`share_features_extractor` must be False, got True.*NatureCNN has parameters",
        policy="CnnPolicy",
        env=of_spaces("image", "discrete"),
        policy_kwargs=shared,
    )
    # One without parameters can
    BaselinePG("MlpPolicy", scripted([[3]]), policy_kwargs=shared, device="cpu")


@pytest.mark.parametrize("algorithm", GRADIENT_STEP)
@pytest.mark.parametrize("kwargs", [dict(use_sde=True), dict(policy_kwargs=dict(use_sde=True))])
def test_gsde_is_for_ppo_alone(algorithm, kwargs):
    refused(algorithm, "`use_sde` must be False, got True: gSDE is for PPO alone", env=of_spaces("box", "box"), **kwargs)
    refused(algorithm, "gSDE is for PPO alone", env=of_spaces("box", "discrete"), **kwargs)
    PPO("MlpPolicy", of_spaces("box", "box"), use_sde=True, n_trajectories=4, device="cpu").learn(1)


def test_what_sb3_asserts_stays_an_assertion():
    refused(PPO, "`batch_size` must be greater than 1", AssertionError, batch_size=1)
    refused(PPO, "`n_steps \\* n_envs` must be greater than 1", AssertionError, env=scripted([[3]]), n_steps=1)
    refused(PPO, "`clip_range_vf` must be positive", AssertionError, clip_range_vf=-1)
    with pytest.warns(UserWarning, match="truncated mini-batch of size 4"):
        PPO("MlpPolicy", scripted([[3], [2]]), n_steps=10, batch_size=8, device="cpu")


def test_ppo():
    for name in ("n_steps", "n_epochs"):
        refused(PPO, f"`{name}` must be a whole number of at least 1, got 0", normalize_advantage=False, **{name: 0})
    refused(PPO, "`clip_range` must be a number of at least 0, got -0.2", clip_range=-0.2)
    refused(PPO, "`vf_coef` must be a number that is finite, got nan", vf_coef=math.nan)
    refused(PPO, "`target_kl` must be a number of at least 0, got -1", target_kl=-1)


def test_infinite_bounds_are_no_bounds():
    bounds = dict(max_grad_norm=math.inf, target_kl=math.inf, clip_range=math.inf)
    PPO("MlpPolicy", scripted([[3]]), n_steps=8, batch_size=8, device="cpu", **bounds).learn(1)


def test_ppo_and_buffers():
    class Custom(RolloutBuffer):
        pass

    refused(PPO, "`rollout_buffer_class` must be None with `n_trajectories`", rollout_buffer_class=Custom, n_trajectories=2)
    refused(PPO, "`rollout_buffer_class` must not grow without `n_trajectories`", rollout_buffer_class=TrajectoryBuffer)
    assert isinstance(PPO("MlpPolicy", scripted([[3]]), rollout_buffer_class=Custom, device="cpu").rollout_buffer, Custom)
    refused(PPO, "`max_trajectory_steps` must be None without `n_trajectories`, got 5", max_trajectory_steps=5)


@pytest.mark.parametrize("algorithm", ALL)
def test_a_load_with_wrong_arguments_is_refused(algorithm, tmp_path):
    algorithm("MlpPolicy", scripted([[3]]), n_trajectories=2, device="cpu").save(tmp_path / "model")
    with pytest.raises(ValueError, match="`n_trajectories`"):
        algorithm.load(tmp_path / "model", n_trajectories=0)
    with pytest.raises(ValueError, match="`gamma`"):
        algorithm.load(tmp_path / "model", gamma=2)
