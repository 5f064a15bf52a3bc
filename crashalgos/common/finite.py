"""What an error says when a number is NaN or infinite: which array it is in, and where."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from crashalgos.common.minibatch_log import MinibatchLog

#: How many arrays an error message names: one NaN soon is everywhere
_SHOWN = 6


def not_finite(name: str, array: Any, rows: str | None = None) -> list[str]:
    """
    Describes the arrays that hold NaN or ±∞.

    :param name: the array's name in the description
    :param array: an array or a tensor, or a dict of such; ``None``: nothing is wrong
    :param rows: what the first index counts; ``None``: not said
    :return: one text for each such array: where its first one is, and how many there are; empty if all is finite
    """
    if array is None:
        return []
    if isinstance(array, dict):
        return [found for key, value in array.items() for found in not_finite(f"{name}[{key!r}]", value, rows)]
    values = array.detach().cpu().numpy() if isinstance(array, th.Tensor) else np.asarray(array)
    places = np.argwhere(~np.isfinite(values))
    if len(places) == 0:
        return []
    first = tuple(places[0].tolist())
    where = f" ({rows} {first[0]})" if rows else ""
    more = f", and {len(places) - 1} more" if len(places) > 1 else ""
    return [f"{name}{list(first) if first else ''} is {values[first]}{where}{more}"]


def not_finite_of(model: OnPolicyAlgorithm) -> list[str]:
    """
    Describes what is not finite of all that a policy's distribution depends on.

    :param model: the model, in a rollout or after an update
    :return: one text for each array that is not finite: last observations, rollout buffer, parameters
    """
    found = not_finite("observation", model._last_obs, rows="env")
    if (rollout := getattr(model, "_rollout", None)) is not None:
        found += not_finite("policy input", rollout.policy_inputs)
    for name in ("observations", "rewards", "values", "advantages", "returns", *getattr(model.rollout_buffer, "columns", ())):
        found += not_finite(f"rollout_buffer.{name}", getattr(model.rollout_buffer, name, None))
    for name, parameter in model.policy.named_parameters():
        found += not_finite(f"parameter {name}", parameter)
    return found


@contextmanager
def explain_non_finite(model: OnPolicyAlgorithm) -> Iterator[None]:
    """
    Names the arrays that are not finite in the ValueError of the block.

    PyTorch raises one when it validates a distribution, and shows the distribution's parameters alone.

    :param model: the model
    :raises ValueError: the block's own; with the arrays' names, if any of them is not finite
    """
    try:
        yield
    except ValueError as error:
        found = not_finite_of(model)
        if not found:
            raise
        shown = "; ".join(found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ValueError(f"The policy has no distribution, because not all it got is finite: {shown}{more}") from error


def check_finite(model: OnPolicyAlgorithm, log: MinibatchLog) -> None:
    """
    Checks the losses of an update. Once at its end is enough: a NaN in one minibatch is in all that follow.

    :param model: the model after the update
    :param log: has the ``loss`` of every minibatch
    :raises ValueError: if a loss is not finite because the sample or the parameters are not
    """
    if not np.isfinite(log.values("loss")).all() and not_finite_of(model):
        with explain_non_finite(model):
            raise ValueError("The loss is not finite")
