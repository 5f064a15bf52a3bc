"""The table of the settings under which PPO must equal SB3's PPO."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.utils import LinearSchedule

from tests.helpers.envs import ScriptedEnv
from tests.helpers.parity_envs import (
    ClippedRewardBuffer,
    DrawsAndLooks,
    MakeEnv,
    NoisyExtractor,
    StopAfter,
    WholeRewards,
    bare,
    episodes,
    evaluates,
    gym_id,
    normalized,
    paying_actions,
    shaped,
    spaces,
    stacked,
    subprocesses,
    successes,
    unmonitored,
    vec_monitored,
)
from tests.helpers.trace import record, trace

#: Small nets: the arithmetic is the same, and the table has many rows.
NET = dict(net_arch=[8])
CNN = dict(net_arch=[8], features_extractor_kwargs=dict(features_dim=8))
DICT = dict(net_arch=[8], features_extractor_kwargs=dict(cnn_output_dim=8))
SEPARATE = dict(share_features_extractor=False)
SDE = dict(use_sde=True)
#: What holds unless a row says otherwise. A high learning rate, so that ratios leave the clip range within few steps.
DEFAULTS: dict[str, Any] = dict(
    n_steps=16, batch_size=16, n_epochs=2, learning_rate=0.01, policy_kwargs=NET, seed=0, device="cpu"
)


class Case(NamedTuple):
    """
    A row of the table.

    :param name: what the row tests
    :param policy: name or class
    :param make_env: makes the env, from the number of envs
    :param n_envs: number of envs
    :param settings: arguments of PPO, on top of ``DEFAULTS``
    :param learns: arguments of each call of ``learn``, "callback" a function that makes one; by default, three rollouts
    :param reached: a condition on the trained model, without which the row would not test its subject
    :param warns: the warning that our PPO gives
    """

    name: str
    policy: str | type[ActorCriticPolicy]
    make_env: MakeEnv
    n_envs: int
    settings: dict[str, Any] = {}  # noqa: RUF012
    learns: tuple[dict[str, Any], ...] = ({},)
    reached: Callable[[Any], bool] = lambda model: model._n_updates > 0
    warns: str | None = None


def logged(model: Any, name: str) -> float:
    return model.logger.name_to_value[f"train/{name}"]


def clips_values(model: Any) -> bool:
    """Tells whether V has moved by more than ``clip_range_vf`` since the collection."""
    buffer = model.rollout_buffer
    observations = th.as_tensor(buffer.observations.reshape(-1, *model.observation_space.shape))
    with th.no_grad():
        change = model.policy.predict_values(observations).numpy().flatten() - buffer.values.flatten()
    return bool((np.abs(change) > logged(model, "clip_range_vf")).any())


def stopped_early(model: Any) -> bool:
    return model._n_updates < model.n_epochs * model.num_timesteps / (model.n_steps * model.n_envs)


CASES = [
    # name, policy, env, number of envs, settings
    # ------------------------------------------------------------ policies, spaces, numbers of envs
    Case("1 env", "MlpPolicy", gym_id("CartPole-v1"), 1),
    Case("3 envs", "MlpPolicy", gym_id("CartPole-v1"), 3),
    Case("8 envs", "MlpPolicy", gym_id("CartPole-v1"), 8),
    Case("Pendulum", "MlpPolicy", gym_id("Pendulum-v1"), 3),
    Case("actions beyond the bounds", "MlpPolicy", paying_actions, 3, dict(policy_kwargs=dict(NET, log_std_init=1.0))),
    Case("env that the algorithm wraps", "MlpPolicy", bare("box", "discrete"), 1),
    Case("mlp, Discrete", "MlpPolicy", spaces("box", "discrete"), 3),
    Case("mlp, Box", "MlpPolicy", spaces("box", "box"), 8),
    Case("mlp, MultiDiscrete", "MlpPolicy", spaces("box", "multi_discrete"), 3),
    Case("mlp, MultiBinary", "MlpPolicy", spaces("box", "multi_binary"), 3),
    Case("mlp, 1 env, Box", "MlpPolicy", spaces("box", "box"), 1),
    Case("mlp, 1 env, MultiDiscrete", "MlpPolicy", spaces("box", "multi_discrete"), 1),
    Case("mlp, 1 env, MultiBinary", "MlpPolicy", spaces("box", "multi_binary"), 1),
    Case("observations Discrete", "MlpPolicy", spaces("discrete", "discrete"), 3),
    Case("observations MultiDiscrete", "MlpPolicy", spaces("multi_discrete", "multi_binary"), 3),
    Case("observations MultiBinary", "MlpPolicy", spaces("multi_binary", "multi_discrete"), 3),
    Case("float64, two dimensions", "MlpPolicy", shaped, 3),
    Case("cnn, Discrete", "CnnPolicy", spaces("image", "discrete"), 3, dict(policy_kwargs=CNN)),
    Case("cnn, Box", "CnnPolicy", spaces("image", "box"), 1, dict(policy_kwargs=CNN)),
    Case("cnn, MultiDiscrete", "CnnPolicy", spaces("image", "multi_discrete"), 3, dict(policy_kwargs=CNN)),
    Case("cnn, MultiBinary", "CnnPolicy", spaces("image", "multi_binary"), 8, dict(policy_kwargs=CNN, n_steps=6)),
    Case("cnn, separate extractors", "CnnPolicy", spaces("image", "discrete"), 3, dict(policy_kwargs=CNN | SEPARATE)),
    Case(
        "cnn, images as they are", "CnnPolicy", spaces("image", "discrete"), 3,
        dict(policy_kwargs=CNN | SEPARATE | dict(normalize_images=False)),
    ),
    Case("dict, Discrete", "MultiInputPolicy", spaces("dict", "discrete"), 3, dict(policy_kwargs=DICT)),
    Case("dict, Box", "MultiInputPolicy", spaces("dict", "box"), 8, dict(policy_kwargs=DICT, n_steps=6)),
    Case("dict, MultiDiscrete", "MultiInputPolicy", spaces("dict", "multi_discrete"), 1, dict(policy_kwargs=DICT)),
    Case("dict, MultiBinary", "MultiInputPolicy", spaces("dict", "multi_binary"), 3, dict(policy_kwargs=DICT)),
    Case("dict, separate extractors", "MultiInputPolicy", spaces("dict", "box"), 3, dict(policy_kwargs=DICT | SEPARATE)),
    Case("class of the policy", ActorCriticPolicy, spaces("box", "box"), 3),
    # ------------------------------------------------------------ nets and optimizers
    Case(
        "two nets and their activation", "MlpPolicy", spaces("box", "discrete"), 3,
        dict(policy_kwargs=dict(net_arch=dict(pi=[7], vf=[5, 6]), activation_fn=th.nn.ReLU, ortho_init=False)),
    ),
    Case("no hidden layer", "MlpPolicy", spaces("box", "box"), 3, dict(policy_kwargs=dict(net_arch=[]))),
    Case("SB3's own sizes", "MlpPolicy", spaces("box", "box"), 3, dict(policy_kwargs=None, batch_size=64, n_epochs=10)),
    Case(
        "training and evaluation mode", "MlpPolicy", spaces("box", "discrete"), 3,
        dict(policy_kwargs=dict(NET, features_extractor_class=NoisyExtractor)),
    ),
    Case(
        "training and evaluation mode, separate", "MlpPolicy", spaces("box", "box"), 3,
        dict(policy_kwargs=dict(NET, features_extractor_class=NoisyExtractor) | SEPARATE),
    ),
    Case(
        "SGD with momentum", "MlpPolicy", spaces("box", "discrete"), 3,
        dict(policy_kwargs=dict(NET, optimizer_class=th.optim.SGD, optimizer_kwargs=dict(momentum=0.9, nesterov=True))),
    ),
    Case(
        "RMSprop of TensorFlow", "MlpPolicy", spaces("box", "box"), 3,
        dict(policy_kwargs=dict(NET, optimizer_class=RMSpropTFLike, optimizer_kwargs=dict(eps=1e-5))),
    ),
    Case(
        "Adam without SB3's epsilon", "MlpPolicy", spaces("box", "discrete"), 3,
        dict(policy_kwargs=dict(NET, optimizer_kwargs=dict(weight_decay=0.01, amsgrad=True))),
        reached=lambda model: model.policy.optimizer.param_groups[0]["eps"] == 1e-8,
    ),
    Case("AdamW", "MlpPolicy", spaces("box", "box"), 3, dict(policy_kwargs=dict(NET, optimizer_class=th.optim.AdamW))),
    # ------------------------------------------------------------ minibatches and epochs
    Case("truncated minibatch", "MlpPolicy", spaces("box", "discrete"), 3, dict(batch_size=13)),
    Case("truncated to one sample", "MlpPolicy", spaces("box", "box"), 3, dict(n_steps=7, batch_size=10)),
    Case("minibatch larger than the rollout", "MlpPolicy", spaces("box", "discrete"), 3, dict(batch_size=1000)),
    Case("many minibatches", "MlpPolicy", spaces("box", "discrete"), 3, dict(n_steps=48, batch_size=2), ({"rollouts": 2},)),
    Case("one epoch", "MlpPolicy", spaces("box", "discrete"), 3, dict(n_epochs=1)),
    Case("rollout of one step", "MlpPolicy", spaces("box", "discrete"), 3, dict(n_steps=1, batch_size=3)),
    # ------------------------------------------------------------ ends, returns
    Case("all terminated", "MlpPolicy", episodes([3, 5, 4], "terminated"), 3),
    Case("time limit", "MlpPolicy", episodes([3, 5, 4], "truncated"), 3),
    Case("time limit, 8 envs", "MlpPolicy", episodes([1, 2, 7], "truncated"), 8),
    Case("terminated at the time limit", "MlpPolicy", episodes([3, 5, 4], "both"), 3),
    Case("no end", "MlpPolicy", episodes([float("inf")], "terminated"), 3),
    Case("gamma and lambda of 1", "MlpPolicy", spaces("box", "discrete"), 3, dict(gamma=1.0, gae_lambda=1.0)),
    Case("gamma of 0", "MlpPolicy", spaces("box", "discrete"), 3, dict(gamma=0.0)),
    Case("lambda of 0", "MlpPolicy", spaces("box", "discrete"), 3, dict(gamma=0.9, gae_lambda=0.0)),
    # ------------------------------------------------------------ wrappers
    Case("VecNormalize", "MlpPolicy", normalized(spaces("box", "box")), 3),
    Case("VecNormalize, time limit", "MlpPolicy", normalized(episodes([3, 5, 4], "truncated")), 3),
    Case("VecNormalize of observations", "MlpPolicy", normalized(gym_id("CartPole-v1"), norm_reward=False), 3),
    Case(
        "VecNormalize of some keys", "MultiInputPolicy", normalized(spaces("dict", "discrete"), norm_obs_keys=["vector"]), 3,
        dict(policy_kwargs=DICT),
    ),
    Case("VecFrameStack", "MlpPolicy", stacked(spaces("box", "discrete")), 3),
    Case("VecFrameStack of images", "CnnPolicy", stacked(spaces("image", "discrete")), 3, dict(policy_kwargs=CNN)),
    Case("VecMonitor", "MlpPolicy", vec_monitored("box", "discrete"), 3),
    Case("no Monitor", "MlpPolicy", unmonitored("box", "discrete"), 3),
    Case("SubprocVecEnv", "MlpPolicy", subprocesses(lambda: bare("box", "discrete")(1)), 2),
    Case("SubprocVecEnv, time limit", "MlpPolicy", subprocesses(lambda: ScriptedEnv(0, [3, 5], "truncated")), 2),
    Case("SubprocVecEnv, whole rewards", "MlpPolicy", subprocesses(lambda: WholeRewards(bare("box", "discrete")(1))), 2),
    Case("success rate", "MlpPolicy", successes("box", "discrete"), 3),
    # ------------------------------------------------------------ gSDE
    Case("gSDE", "MlpPolicy", spaces("box", "box"), 3, SDE),
    Case("gSDE, 1 env", "MlpPolicy", gym_id("Pendulum-v1"), 1, SDE),
    Case("gSDE, resampled", "MlpPolicy", spaces("box", "box"), 8, dict(SDE, sde_sample_freq=4)),
    Case("gSDE, resampled at every step", "MlpPolicy", gym_id("Pendulum-v1"), 3, dict(SDE, sde_sample_freq=1)),
    Case(
        "gSDE, squashed", "MlpPolicy", spaces("box", "box"), 3,
        dict(SDE, ent_coef=0.1, sde_sample_freq=4, policy_kwargs=dict(NET, squash_output=True)),
    ),
    Case("gSDE, squashed and scaled", "MlpPolicy", paying_actions, 3, dict(SDE, policy_kwargs=dict(NET, squash_output=True))),
    Case("gSDE, one std", "MlpPolicy", spaces("box", "box"), 3, dict(SDE, policy_kwargs=dict(NET, full_std=False))),
    Case("gSDE, expln", "MlpPolicy", spaces("box", "box"), 3, dict(SDE, policy_kwargs=dict(NET, use_expln=True))),
    Case(
        "gSDE, dict", "MultiInputPolicy", spaces("dict", "box"), 3, dict(SDE, sde_sample_freq=4, policy_kwargs=DICT | SEPARATE)
    ),
    # ------------------------------------------------------------ the objective
    Case("small clip range", "MlpPolicy", spaces("box", "box"), 3, dict(clip_range=0.02)),
    Case("clip range of 1 and more", "MlpPolicy", spaces("box", "box"), 3, dict(clip_range=1.5)),
    Case("advantages as they are", "MlpPolicy", spaces("box", "discrete"), 3, dict(normalize_advantage=False)),
    Case(
        "minibatches of one sample", "MlpPolicy", spaces("box", "box"), 1,
        dict(normalize_advantage=False, batch_size=1, n_steps=6),
    ),
    Case("entropy, Discrete", "MlpPolicy", spaces("box", "discrete"), 3, dict(ent_coef=0.1)),
    Case("entropy, Box", "MlpPolicy", spaces("box", "box"), 3, dict(ent_coef=0.1)),
    Case("entropy, MultiDiscrete", "MlpPolicy", spaces("box", "multi_discrete"), 3, dict(ent_coef=-0.1)),
    Case("no value loss", "MlpPolicy", spaces("box", "discrete"), 3, dict(vf_coef=0.0)),
    Case("large value loss", "MlpPolicy", spaces("box", "discrete"), 3, dict(vf_coef=3)),
    Case("norm clipped", "MlpPolicy", spaces("box", "discrete"), 3, dict(max_grad_norm=0.01)),
    Case("norm hardly clipped", "MlpPolicy", spaces("box", "discrete"), 3, dict(max_grad_norm=1e6)),
    Case("values clipped", "MlpPolicy", gym_id("CartPole-v1"), 3, dict(clip_range_vf=0.01), reached=clips_values),
    Case(
        "values clipped by a schedule", "MlpPolicy", gym_id("CartPole-v1"), 3,
        dict(clip_range_vf=LinearSchedule(0.03, 0.01, 1)), reached=clips_values,
    ),
    Case(
        "stop at the target KL", "MlpPolicy", spaces("box", "discrete"), 3,
        dict(target_kl=0.002, n_epochs=8, verbose=1), reached=stopped_early,
    ),
    Case(
        "stop in the first epoch", "MlpPolicy", spaces("box", "box"), 3, dict(target_kl=1e-6, verbose=1),
        reached=lambda model: model._n_updates == 3,
    ),
    Case(
        "target KL out of reach", "MlpPolicy", spaces("box", "box"), 3, dict(target_kl=1e3, verbose=1),
        reached=lambda model: not stopped_early(model),
    ),
    # ------------------------------------------------------------ schedules
    Case("schedule of the rate", "MlpPolicy", spaces("box", "box"), 3, dict(learning_rate=LinearSchedule(0.02, 0.001, 1))),
    Case("schedule of the clip range", "MlpPolicy", spaces("box", "box"), 3, dict(clip_range=lambda progress: 0.3 * progress)),
    Case(
        "rate below zero", "MlpPolicy", spaces("box", "discrete"), 3, dict(learning_rate=lambda progress: 0.02 * progress),
        ({"total_timesteps": 100},), warns="`learning_rate` is -", reached=lambda model: logged(model, "learning_rate") < 0,
    ),
    Case(
        "clip range below zero", "MlpPolicy", spaces("box", "box"), 3, dict(clip_range=lambda progress: 0.3 * progress),
        ({"total_timesteps": 100},), warns="`clip_range` is -", reached=lambda model: logged(model, "clip_range") < 0,
    ),
    Case(
        "value clip range below zero", "MlpPolicy", spaces("box", "box"), 3, dict(clip_range_vf=lambda progress: progress),
        ({"total_timesteps": 100},), warns="`clip_range_vf` is -", reached=lambda model: logged(model, "clip_range_vf") < 0,
    ),
    # ------------------------------------------------------------ learn, callbacks, logs
    Case("second learn, axis anew", "MlpPolicy", spaces("box", "discrete"), 3, learns=({}, {})),
    Case("second learn, axis goes on", "MlpPolicy", spaces("box", "box"), 3, learns=({}, {"reset_num_timesteps": False})),
    Case(
        "second learn, schedules", "MlpPolicy", normalized(spaces("box", "box")), 3,
        dict(SDE, learning_rate=LinearSchedule(0.02, 0.001, 1), clip_range=lambda progress: 0.3 * progress),
        ({}, {"reset_num_timesteps": False}, {}),
    ),
    Case("callback stops", "MlpPolicy", spaces("box", "discrete"), 3, learns=({"callback": lambda: StopAfter(40)},)),
    Case(
        "callback stops, second learn", "MlpPolicy", spaces("box", "box"), 3,
        learns=({"callback": lambda: StopAfter(40)}, {"reset_num_timesteps": False}, {"callback": lambda: StopAfter(20)}),
    ),
    Case(
        "callback stops at the first step", "MlpPolicy", spaces("box", "discrete"), 3,
        learns=({"callback": lambda: StopAfter(1)}, {}),
    ),
    Case("callback that takes part", "MlpPolicy", spaces("box", "box"), 3, learns=({"callback": DrawsAndLooks},)),
    Case("evaluation in between", "MlpPolicy", spaces("box", "discrete"), 3, learns=({"callback": evaluates},)),
    Case("log interval", "MlpPolicy", spaces("box", "discrete"), 3, learns=({"log_interval": 2, "rollouts": 5},)),
    Case("no log", "MlpPolicy", spaces("box", "discrete"), 3, learns=({"log_interval": None},)),
    Case("window of statistics", "MlpPolicy", spaces("box", "discrete"), 3, dict(stats_window_size=3)),
    Case(
        "the user's buffer", "MlpPolicy", spaces("box", "discrete"), 3,
        dict(rollout_buffer_class=ClippedRewardBuffer, rollout_buffer_kwargs=dict(low=-0.1)),
    ),
    Case("another seed", "MlpPolicy", spaces("box", "box"), 3, dict(seed=12345)),
]  # fmt: skip


def train_case(kind: type[OnPolicyAlgorithm], case: Case) -> tuple[Any, dict[str, Any]]:
    """Trains SB3's PPO or ours as the row says; gives the model and its trace."""
    model = kind(case.policy, case.make_env(case.n_envs), **{**DEFAULTS, **case.settings})  # type: ignore[arg-type]
    recorder = record(model)
    for learn in case.learns:
        arguments: dict[str, Any] = dict(learn)
        arguments.setdefault("total_timesteps", arguments.pop("rollouts", 3) * model.n_steps * model.n_envs)
        if "callback" in arguments:
            arguments["callback"] = arguments["callback"]()
        model.learn(**arguments)
    found = trace(model, recorder)
    model.env.close()
    return model, found
