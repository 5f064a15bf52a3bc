"""
With ``n_steps``, PPO is SB3's PPO to the last bit.

``helpers/parity_cases.py`` is the table of the settings, ``helpers/trace.py`` collects what is compared.
"""

import warnings

import pytest
import stable_baselines3 as sb3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.utils import LinearSchedule

from crashalgos import PPO
from tests.helpers.envs import ACTION_SPACES
from tests.helpers.parity_cases import CASES, NET, Case, train_case
from tests.helpers.parity_envs import normalized
from tests.helpers.parity_envs import spaces as of_space_names
from tests.helpers.trace import differences


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_ppo_is_sb3s_ppo(case, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, expected = train_case(sb3.PPO, case)
    printed = capsys.readouterr().out
    if case.warns is None:
        model, found = train_case(PPO, case)
    else:
        with pytest.warns(UserWarning, match=case.warns):
            model, found = train_case(PPO, case)
    assert differences(expected, found) == []
    assert capsys.readouterr().out == printed
    assert case.reached(model)


@given(data=st.data())
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@pytest.mark.filterwarnings("ignore")
def test_ppo_is_sb3s_ppo_under_settings_drawn_at_random(data):
    """Changes all settings at once, where the table changes one at a time."""
    one_of = st.sampled_from
    action = data.draw(one_of(list(ACTION_SPACES)))
    normalize_advantage, use_sde = data.draw(st.booleans()), action == "box" and data.draw(st.booleans())
    arguments = dict(
        n_steps=data.draw(st.integers(2, 20)),
        batch_size=data.draw(st.integers(2 if normalize_advantage else 1, 40)),
        n_epochs=data.draw(st.integers(1, 3)),
        learning_rate=data.draw(one_of([1e-4, 0.02, LinearSchedule(0.02, 0.001, 1)])),
        gamma=data.draw(st.floats(0, 1)),
        gae_lambda=data.draw(st.floats(0, 1)),
        clip_range=data.draw(one_of([0.01, 0.2, LinearSchedule(0.3, 0.05, 1)])),
        clip_range_vf=data.draw(one_of([None, 0.05, LinearSchedule(0.1, 0.01, 1)])),
        normalize_advantage=normalize_advantage,
        ent_coef=data.draw(one_of([0, 0.01, 0.3])),
        vf_coef=data.draw(one_of([0, 0.5, 2])),
        max_grad_norm=data.draw(one_of([1e-3, 0.5, 100.0])),
        use_sde=use_sde,
        sde_sample_freq=data.draw(st.integers(-1, 4)),
        target_kl=data.draw(one_of([None, 1e-4, 0.05])),
        policy_kwargs=dict(NET, squash_output=use_sde and data.draw(st.booleans())),
        seed=data.draw(st.integers(0, 1000)),
    )
    make_env = of_space_names("box", action)
    if data.draw(st.booleans()):
        make_env = normalized(make_env, gamma=arguments["gamma"])
    learns = ({}, {"reset_num_timesteps": data.draw(st.booleans())})
    case = Case("drawn", "MlpPolicy", make_env, data.draw(st.integers(1, 5)), arguments, learns)
    assert differences(train_case(sb3.PPO, case)[1], train_case(PPO, case)[1]) == []


def test_names_of_the_rows_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)
