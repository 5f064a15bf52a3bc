"""Without EnvPool the package works, and EnvPoolVecEnv says what to install."""

import subprocess
import sys

import pytest

from crashalgos.vec_envs import EnvPoolVecEnv


def test_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(ImportError, match=r"EnvPoolVecEnv needs EnvPool \(.*\): pip install envpool"):
        EnvPoolVecEnv("CartPole-v1", 2)


def test_it_loads_when_used():
    code = "import sys, crashalgos.vec_envs; sys.exit('envpool' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
