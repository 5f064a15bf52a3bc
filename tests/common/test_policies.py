"""No critic means none; separate optimizers own separate parameters."""

import pytest
import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy

from crashalgos import REINFORCE, BaselinePG
from tests.helpers.envs import of_spaces, scripted

KINDS = [("MlpPolicy", "box"), ("CnnPolicy", "image"), ("MultiInputPolicy", "dict")]


@pytest.mark.parametrize(("policy", "observation"), KINDS)
def test_reinforce_has_no_value_parameters(policy, observation):
    kwargs = dict(net_arch=dict(pi=[8], vf=[8]), share_features_extractor=False)
    model = REINFORCE(policy, of_spaces(observation, "box"), policy_kwargs=kwargs, device="cpu")
    names = dict(model.policy.named_parameters())
    assert not any("value" in name or "vf_" in name for name in names if not name.startswith("vf_features_extractor"))
    assert model.policy.vf_features_extractor is model.policy.pi_features_extractor
    assert not hasattr(model.policy, "value_net")
    in_optimizer = [parameter for group in model.policy.optimizer.param_groups for parameter in group["params"]]
    assert {id(parameter) for parameter in in_optimizer} == {id(parameter) for parameter in names.values()}


def test_nothing_reads_a_value_of_an_actor():
    model = REINFORCE("MlpPolicy", scripted([[3]], "truncated"), n_trajectories=2, device="cpu")
    observation = th.zeros(1, 3)
    assert model.policy(observation)[1] is None
    assert model.policy.evaluate_actions(observation, th.zeros(1))[0] is None
    with pytest.raises(AttributeError, match="has no critic"):
        model.policy.predict_values(observation)
    model.learn(1)
    assert not model.rollout_buffer.values.any()


def test_an_actor_takes_the_weights_of_an_actor_critic():
    model = REINFORCE("MlpPolicy", scripted([[3]]), device="cpu", seed=0)
    other = ActorCriticPolicy(model.observation_space, model.action_space, lambda _: 1e-3)
    missing = model.policy.load_state_dict(other.state_dict(), strict=False)
    assert not missing.missing_keys
    observation = th.randn(5, 3)
    ours, theirs = (policy.get_distribution(observation).distribution.logits for policy in (model.policy, other))
    assert th.equal(ours, theirs)


@pytest.mark.parametrize(("policy", "observation"), KINDS)
def test_two_optimizers_share_nothing_and_leave_nothing_out(policy, observation):
    kwargs = dict(optimizer_class=th.optim.SGD, optimizer_kwargs=dict(momentum=0.5))
    model = BaselinePG(
        policy, of_spaces(observation, "box"), learning_rate=0.1, value_learning_rate=0.2, policy_kwargs=kwargs, device="cpu"
    )
    optimizers = (model.policy.optimizer, model.policy.value_optimizer)
    actor, critic = ({id(p) for group in optimizer.param_groups for p in group["params"]} for optimizer in optimizers)
    assert not actor & critic
    assert actor | critic == {id(parameter) for parameter in model.policy.parameters()}
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.1, 0.2]
    assert all(isinstance(optimizer, th.optim.SGD) and optimizer.defaults["momentum"] == 0.5 for optimizer in optimizers)
