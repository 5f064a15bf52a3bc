"""How tests of ``compile=True`` compile, count graphs and compare models."""

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
    """Counts the graphs that Dynamo has made in this process."""
    return counters["stats"]["unique_graphs"]


@contextmanager
def without_code() -> Iterator[None]:
    """Replaces Inductor's C++: graphs are traced, made functional and run by ATen, in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        aot_eager = torch._dynamo.lookup_backend("aot_eager")
        patch.setattr(torch._inductor, "compile", lambda graph, inputs, options: aot_eager(graph, inputs))
        forget_graphs()
        yield
    forget_graphs()


@contextmanager
def with_code() -> Iterator[None]:
    """Uses Inductor's C++, also within :func:`without_code`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch._inductor, "compile", INDUCTOR)
        forget_graphs()
        yield
    forget_graphs()


def forget_graphs() -> None:
    """Makes everything that was compiled so far be compiled again."""
    torch._dynamo.reset()
    compiler._compiled.cache_clear()


@contextmanager
def no_complaint() -> Iterator[None]:
    """Raises an error if anything falls back to eager."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=COMPLAINT)
        yield


def twins(make: Callable[..., Any], total_timesteps: int = 60) -> tuple[Any, Any]:
    """
    Gives two models of one state and one rollout: the first one eager, the second one to be compiled.

    :param make: makes a model from keyword arguments
    :param total_timesteps: number of steps that it learns first, so that the optimizers have a state
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
    """Makes one update from a fixed random state, and gives what it logs."""
    np.random.seed(0)
    th.manual_seed(0)
    model.train()
    return dict(model.logger.name_to_value)


def parameters(model: Any) -> list[th.Tensor]:
    """Copies the policy's parameters and buffers."""
    return [tensor.clone() for tensor in model.policy.state_dict().values()]


def same(first: Any, second: Any) -> bool:
    """Tells whether the parameters of two models are equal to the last bit."""
    return all(th.equal(a, b) for a, b in zip(parameters(first), parameters(second), strict=True))
