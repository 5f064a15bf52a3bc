"""
What guards cost: our calls of a compiled graph beside ``torch.compiler.set_stance(skip_guard_eval_unsafe=True)``.

``python -m scripts.benchmark.guards`` prints medians of interleaved repeats, for one gradient step and one forward pass of
PPO on CartPole-v1. docs/architecture.md quotes the ratios.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch as th
import torch._dynamo
from stable_baselines3.common.env_util import make_vec_env

from crashalgos import PPO
from crashalgos.common import compiler
from crashalgos.common.distributions import without_validation
from crashalgos.common.minibatch_log import MinibatchLog
from crashalgos.common.on_policy_algorithm import _forward

N_ENVS, BATCH_SIZE = 8, 64
CALLS, REPEATS = 300, 11


def main() -> None:
    """Measures and prints."""
    th.set_num_threads(1)
    env = make_vec_env("CartPole-v1", N_ENVS)
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=BATCH_SIZE, n_epochs=2, compile=True, device="cpu", seed=0)
    model.learn(2 * 32 * N_ENVS)
    batch = next(model.rollout_buffer.get(BATCH_SIZE))
    observations = model.policy.obs_to_tensor(model._last_obs)[0]  # type: ignore[arg-type]

    def of_step() -> dict[str, float]:
        with model._gradient_step(model._coefficients(), MinibatchLog()) as step:
            step(batch)
            return _seconds_per_call(step._fused, batch)  # type: ignore[attr-defined]

    def of_forward() -> dict[str, float]:
        session = model._compiler.session(_forward, model.policy, name="the policy", static_size=N_ENVS)
        with th.no_grad(), without_validation():
            return _seconds_per_call(session, observations)

    for name, measure in (("gradient step", of_step), ("forward pass", of_forward)):
        found = [measure() for _ in range(REPEATS)]
        for way in found[0]:
            microseconds = statistics.median(one[way] for one in found) * 1e6
            ratio = statistics.median(one[way] / one["without guards"] for one in found)
            print(f"{name}, {way}: {microseconds:.0f} µs, {ratio:.2f} × without guards")


def _seconds_per_call(session: Any, varying: Any) -> dict[str, float]:
    """The same graph three ways: as a session calls it, with Dynamo's guards, and with the guards skipped by a stance."""
    graph = compiler._compiled(session._function)

    def by_dynamo(varying: Any) -> None:
        graph(session._policy, *session._constants, varying)

    seconds = {"without guards": _time(session, varying)}
    with torch._dynamo.config.patch(compiler._DYNAMO_OPTIONS):
        seconds["with guards"] = _time(by_dynamo, varying)
        with th.compiler.set_stance(skip_guard_eval_unsafe=True):
            seconds["skip_guard_eval_unsafe"] = _time(by_dynamo, varying)
    return seconds


def _time(call: Callable[[Any], Any], varying: Any) -> float:
    call(varying)
    start = time.perf_counter()
    for _ in range(CALLS):
        call(varying)
    return (time.perf_counter() - start) / CALLS


if __name__ == "__main__":
    main()
