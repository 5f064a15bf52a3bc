"""All that a run leaves behind, under one name each, so that two runs can be compared to the last bit."""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

#: Logged, but read from the clock.
CLOCK = ("time/fps", "time/time_elapsed")


class Recorder(KVWriter):
    """Keeps what every dump logs: the values, and the output formats that do not show them."""

    def __init__(self) -> None:
        self.dumps: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.dumps.append({"step": step, **{key: (value, key_excluded[key]) for key, value in key_values.items()}})

    def close(self) -> None:
        pass


def record(model: OnPolicyAlgorithm) -> Recorder:
    """Makes the model log into a recorder and nowhere else; gives the recorder."""
    recorder = Recorder()
    model.set_logger(Logger(folder=None, output_formats=[recorder]))
    return recorder


def trace(model: OnPolicyAlgorithm, recorder: Recorder) -> dict[str, Any]:
    """
    Collects all that must be equal after training, flat; names that begin with "logged" may be more in one model.

    Call it right after training. It takes the state of the random generators, which shows that neither model drew more often,
    and then draws actions from them.
    """
    found: dict[str, Any] = {
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "progress_remaining": model._current_progress_remaining,
        "random/torch": th.get_rng_state(),
        "random/numpy": np.random.get_state()[1:],
        "episodes": [{key: value for key, value in episode.items() if key != "t"} for episode in model.ep_info_buffer],
        "successes": list(model.ep_success_buffer),
        **learned(model),
    }
    # A dump shows the update before; the figures of the last update are still in the logger
    last = {key: (value, model.logger.name_to_excluded[key]) for key, value in model.logger.name_to_value.items()}
    found["number of dumps"] = len(recorder.dumps)
    for index, dump in enumerate([*recorder.dumps, last]):
        for name, value in dump.items():
            if name not in CLOCK:
                found[f"logged/{index}/{name}"] = value

    buffer = model.rollout_buffer
    for name in ("observations", "actions", "rewards", "episode_starts", "values", "log_probs", "advantages", "returns"):
        found[f"rollout/{name}"] = getattr(buffer, name)

    normalize = model.get_vec_normalize_env()
    if normalize is not None:
        of_obs = normalize.obs_rms if isinstance(normalize.obs_rms, dict) else {"obs": normalize.obs_rms}
        for name, statistics in {**of_obs, "reward": normalize.ret_rms}.items():
            found[f"normalization/{name}"] = (statistics.mean, statistics.var, statistics.count)

    found["last_obs"] = model._last_obs
    found["predict/mode"] = model.predict(model._last_obs, deterministic=True)[0]
    found["predict/sample"] = model.predict(model._last_obs)[0]
    return found


def learned(model: OnPolicyAlgorithm) -> dict[str, Any]:
    """Collects the policy's parameters and the optimizer's state, flat."""
    found: dict[str, Any] = {f"weights/{name}": tensor for name, tensor in model.policy.state_dict().items()}
    optimizer = model.policy.optimizer.state_dict()
    for parameter, state in optimizer["state"].items():
        found |= {f"optimizer/{parameter}/{name}": value for name, value in state.items()}
    for index, group in enumerate(optimizer["param_groups"]):
        found |= {f"optimizer/group {index}/{name}": value for name, value in group.items()}
    return found


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """
    Lists the names that are missing, too many, of another type, or not equal to the last bit.

    :param expected: SB3's trace
    :param found: our trace, which may have logged more
    """
    wrong = [name for name in expected if name not in found or not identical(expected[name], found[name])]
    return wrong + [name for name in found if name not in expected and not name.startswith("logged/")]


def identical(first: Any, second: Any) -> bool:
    """Tells whether two values have one type, one dtype and the same content; NaN equals NaN."""
    if type(first) is not type(second):
        return False
    if isinstance(first, th.Tensor):
        return first.dtype == second.dtype and th.equal(first, second)
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(identical(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(identical, first, second))
    return bool(first == second) or (first != first and second != second)
