"""The snippets of docs/vec_envs.md run as they stand there."""

import importlib.util
import re
from pathlib import Path

import pytest

from crashalgos.common.on_policy_algorithm import PolicyGradientAlgorithm

PAGE = Path(__file__).parents[2] / "docs" / "vec_envs.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["subproc", "gymnasium", "envpool"])
def test_it_trains(snippet, monkeypatch):
    if "EnvPool" in snippet and importlib.util.find_spec("envpool") is None:
        pytest.skip("EnvPool is not installed")
    learn = PolicyGradientAlgorithm.learn
    monkeypatch.setattr(PolicyGradientAlgorithm, "learn", lambda model, total: learn(model, min(total, 500)))
    # Processes that import everything take their time
    forked = 'vec_env_cls=SubprocVecEnv, vec_env_kwargs={"start_method": "fork"}'
    names = {"__name__": "__main__"}
    exec(snippet.replace("vec_env_cls=SubprocVecEnv", forked), names)
    assert names["model"].num_timesteps >= 500
    names["env"].close()
