"""With ``n_steps``, PPO is SB3's PPO to the last bit: `cases.py` is the table of the settings, `trace.py` what is compared."""

import warnings
from typing import Any

import pytest
import stable_baselines3 as sb3
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from tests.parity.cases import CASES, DEFAULTS, Case
from tests.parity.trace import differences, record, trace

from crashalgos import PPO


def train(kind: type[OnPolicyAlgorithm], case: Case) -> tuple[Any, dict[str, Any]]:
    """
    :param kind: SB3's PPO or ours
    :param case: a row of the table
    :return: the trained model and its trace
    """
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_ppo_is_sb3s_ppo(case, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, expected = train(sb3.PPO, case)
    printed = capsys.readouterr().out
    if case.warns is None:
        model, found = train(PPO, case)
    else:
        with pytest.warns(UserWarning, match=case.warns):
            model, found = train(PPO, case)
    assert differences(expected, found) == []
    assert capsys.readouterr().out == printed
    assert case.reached(model)


def test_names_of_the_rows_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)
