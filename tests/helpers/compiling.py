"""What tests of ``compile=True`` share."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch as th
import torch._dynamo
import torch._inductor
from stable_baselines3.common.logger import Logger
from torch._dynamo.utils import counters

from crashalgos.common import compiler

INDUCTOR = torch._inductor.compile
COMPLAINT = "compile=True: running eagerly"


def n_graphs() -> int:
    """:return: how many graphs Dynamo has made in this process"""
    return counters["stats"]["unique_graphs"]


@contextmanager
def without_code() -> Iterator[None]:
    """Everything but Inductor's C++: graphs are traced, made functional and run by ATen. Seconds instead of half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        aot_eager = torch._dynamo.lookup_backend("aot_eager")
        patch.setattr(torch._inductor, "compile", lambda graph, inputs, options: aot_eager(graph, inputs))
        forget_graphs()
        yield
    forget_graphs()


@contextmanager
def with_code() -> Iterator[None]:
    """Inductor's C++, too, also within :func:`without_code`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch._inductor, "compile", INDUCTOR)
        forget_graphs()
        yield
    forget_graphs()


def forget_graphs() -> None:
    """What was compiled so far is compiled again."""
    torch._dynamo.reset()
    compiler._compiled.cache_clear()


@contextmanager
def no_complaint() -> Iterator[None]:
    """Nothing in it may fall back to eager."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=COMPLAINT)
        yield


def twins(make: Callable[..., Any], total_timesteps: int = 60) -> tuple[Any, Any]:
    """
    :param make: gives a model, with the keyword arguments that it gets
    :param total_timesteps: what it learns first, so that the optimizers have a state
    :return: two models of one state and one rollout: the first one eager, the second one to be compiled
    """
    eager = make().learn(total_timesteps)
    file = io.BytesIO()
    eager.save(file)
    found = []
    for compile in (False, True):
        file.seek(0)
        model = type(eager).load(file, env=make().get_env(), device=eager.device, compile=compile)
        model.set_logger(Logger(None, []))
        model.rollout_buffer = eager.rollout_buffer
        model._current_progress_remaining = eager._current_progress_remaining
        found.append(model)
    return found[0], found[1]


def update(model: Any) -> dict[str, Any]:
    """
    :param model: makes one update, with a given random state
    :return: what it logs
    """
    np.random.seed(0)
    th.manual_seed(0)
    model.train()
    return dict(model.logger.name_to_value)


def parameters(model: Any) -> list[th.Tensor]:
    """:return: copies of the policy's parameters and buffers"""
    return [tensor.clone() for tensor in model.policy.state_dict().values()]


def same(first: Any, second: Any) -> bool:
    """
    :param first: a model
    :param second: another
    :return: whether their parameters are equal to the last bit
    """
    return all(th.equal(a, b) for a, b in zip(parameters(first), parameters(second), strict=True))
