"""
``torch.compile`` for small functions that are called very often. No other module knows the compiler.

``torch.compile(function)`` works in three stages:

1. At the first call, TorchDynamo runs through the function's Python code and records its tensor operations: the *graph*. It
   also records the *guards*, the conditions under which the graph is valid: dtypes, shapes, attributes of the policy.
2. TorchInductor compiles the graph: to C++ on a CPU, to Triton kernels and a CUDA graph on a GPU.
3. At every later call, Dynamo checks the guards. If they hold, it runs the graph; otherwise it makes another one.

For networks of SB3's size, to check the guards takes about as long as to run the graph. So this module checks them less often.
A *session* is the calls of one function in one update or one rollout. During a session only the function's last argument
varies. The session checks the guards at the first call for each shape of this argument. It keeps the graph and the inputs of
this call. At later calls it runs the graph directly, with the new tensors in the places of the old ones.
"""

import copy
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common import preprocessing
from stable_baselines3.common.policies import BasePolicy

from crashalgos.common.distributions import without_validation

# `trace_autograd_ops`: gradients are part of the graph. `recompile_limit`: one function may have this many graphs, because
# the models of a sweep have many shapes
_DYNAMO_OPTIONS: dict[str, Any] = {"trace_autograd_ops": True, "recompile_limit": 128}
# `cpp_wrapper`: C++ calls the kernels, because calls from Python take as long as the kernels. `min_chunk_size`: small kernels
# use one thread; the value is ATen's grain size
_CPU_OPTIONS: dict[str, Any] = {"cpp_wrapper": True, "cpp.min_chunk_size": 32768}
# `cudagraph_skip_dynamic_graphs`: a CUDA graph has fixed sizes, so it does not pay for sizes that vary.
# `graph_partition`: otherwise PyTorch would split all graphs to skip the dynamic ones. With torch 2.11 this gave a wrong norm
_CUDA_OPTIONS: dict[str, Any] = {
    "triton.cudagraphs": True,
    "triton.cudagraph_skip_dynamic_graphs": True,
    "graph_partition": False,
}
#: A model may compile a function so many times for the same size. A function that needs more would compile forever
_MAX_COMPILATIONS = 3
#: A compilation that takes longer is announced
_SECONDS_BEFORE_NOTICE = 2.0

#: Named tensors: the result of every compiled function
Figures = dict[str, th.Tensor]


class Compiler:
    """
    The compiler of one model. It gives up at the first part of the model that it cannot compile.

    Then one warning says so, and the whole model runs eagerly, that is, without the compiler.

    :param enabled: whether the model asks for the compiler (``compile=True``)
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._n_compilations: Counter[tuple[str, int | None]] = Counter()

    def session(
        self,
        function: Callable[..., Figures],
        policy: BasePolicy,
        *constants: Any,
        name: str,
        static_size: int | None = None,
    ) -> "Session":
        """
        Begins a session: the calls of a function in one update or one rollout.

        :param function: ``function(policy, *constants, varying)`` → named tensors. Models with similar policies share its
            graphs, so it must be a function of a module and not a method or a closure
        :param policy: the first argument
        :param constants: the next arguments. During the session, the policy and the constants may change only in place
        :param name: the function's name in messages
        :param static_size: the number of rows of ``varying`` that gets a graph of its own, which is faster. All other numbers
            share one graph. ``None``: all numbers share one graph
        :return: the function of ``varying``
        """
        return Session(self, function, policy, constants, name, static_size)

    def count_compilation(self, name: str, size: int | None) -> None:
        """
        Counts a compilation, and gives up after too many of them.

        For example, a policy that changes a Python number at every call needs a new graph at every call.

        :param name: the function's name
        :param size: the number of rows; ``None``: any number
        """
        self._n_compilations[name, size] += 1
        if self._n_compilations[name, size] > _MAX_COMPILATIONS:
            self.give_up(f"{name} had to be compiled again and again: something that it reads is another one each time")

    def give_up(self, reason: str) -> None:
        """
        Switches to eager mode for the rest of the model's life, with a warning.

        :param reason: the reason, for the warning
        """
        self.enabled = False
        warnings.warn(f"compile=True: running eagerly from now on, because {reason}", stacklevel=2)


class Session:
    """
    The calls of a compiled function in one update or one rollout. :meth:`Compiler.session` makes it.

    :param compiler: the model's compiler
    :param function: the function
    :param policy: its first argument
    :param constants: its next arguments
    :param name: its name in messages
    :param static_size: the number of rows that gets a graph of its own
    """

    def __init__(
        self,
        compiler: Compiler,
        function: Callable[..., Figures],
        policy: BasePolicy,
        constants: tuple[Any, ...],
        name: str,
        static_size: int | None,
    ) -> None:
        self._compiler = compiler
        self._function = function
        self._policy = policy
        self._constants = constants
        self._name = name
        self._static_size = static_size
        self._bound_graphs: dict[_Layout, _BoundGraph] = {}

    def __call__(self, varying: Any) -> Figures | None:
        """
        Calls the compiled function.

        :param varying: its last argument: a tensor, or dicts and tuples of tensors, all with the same number of rows
        :return: its result; ``None``: the caller must call the function eagerly
        """
        if not self._compiler.enabled:
            return None
        tensors = _tensors_in(varying)
        layout = tuple((tensor.dtype, tensor.shape, tensor.stride()) for tensor in tensors)
        if (bound_graph := self._bound_graphs.get(layout)) is not None:
            return bound_graph(tensors)
        size = len(tensors[0])
        if size < 2 and size != self._static_size:
            return None  # the graph for any number of rows needs at least two
        return self._call_with_guards(varying, tensors, layout)

    def _call_with_guards(self, varying: Any, tensors: Sequence[th.Tensor], layout: "_Layout") -> Figures | None:
        """Calls the function through Dynamo, and keeps the graph that ran for later calls."""
        size = len(tensors[0]) if len(tensors[0]) == self._static_size else None
        _recorder.start(self._name)
        try:
            with without_validation():
                if size is None:
                    for tensor in tensors:
                        th._dynamo.mark_dynamic(tensor, 0)
                with th._dynamo.config.patch(_DYNAMO_OPTIONS), _traceable(self._policy):
                    outputs = _compiled(self._function)(self._policy, *self._constants, varying)
        except Exception as error:
            if _recorder.take_run() is not None:
                raise  # the graph has run and may have changed parameters, so an eager call would change them twice
            self._compiler.give_up(f"{self._name} could not be compiled ({type(error).__name__}: {_first_line(error)})")
            return None
        if _recorder.n_compilations:
            self._compiler.count_compilation(self._name, size)
        if (run := _recorder.take_run()) is not None and (bound_graph := _bind_graph(run, tensors, outputs)) is not None:
            self._bound_graphs[layout] = bound_graph
        return _out_of_graph_memory(outputs)


# ------------------------------------------------------------------ bound graphs

#: What a bound graph requires of the varying tensors: the dtype, shape and strides of each
_Layout = tuple[tuple[th.dtype, th.Size, tuple[int, ...]], ...]
#: A graph as a function of the varying tensors alone
_BoundGraph = Callable[[Sequence[th.Tensor]], Figures]


class _GraphRun(NamedTuple):
    """One run of a graph. Dynamo flattens the function's arguments to ``inputs``."""

    graph: Callable[..., Sequence[th.Tensor]]
    inputs: tuple[Any, ...]
    outputs: Sequence[th.Tensor]


class _Recorder(threading.local):
    """
    What happens during one call through Dynamo, in one thread.

    The session starts it, the backend :func:`_inductor` fills it in, and the session reads it after the call.
    """

    #: The last run of a graph
    run: _GraphRun | None = None
    #: The function's name in messages
    name: str = ""
    n_compilations: int = 0

    def start(self, name: str) -> None:
        self.run, self.name, self.n_compilations = None, name, 0

    def take_run(self) -> _GraphRun | None:
        """Returns the run and forgets it, so that its tensors can be freed."""
        run, self.run = self.run, None
        return run


_recorder = _Recorder()


def _bind_graph(run: _GraphRun, tensors: Sequence[th.Tensor], outputs: Figures) -> _BoundGraph | None:
    """
    Binds the inputs of a graph's run, except the varying tensors.

    :param run: the run
    :param tensors: the varying tensors of this run
    :param outputs: the function's result in this run
    :return: the graph as a function of the varying tensors; ``None`` if the function does more than to run the graph
    """
    positions = [(position, i) for position, x in enumerate(run.inputs) for i, tensor in enumerate(tensors) if x is tensor]
    index_of = {id(output): index for index, output in enumerate(run.outputs)}
    # Dynamo does something else with an output that is no figure: it sets an attribute of a module, for example
    if len(run.outputs) != len(outputs) or any(id(output) not in index_of for output in outputs.values()):
        return None
    named_indices = [(name, index_of[id(output)]) for name, output in outputs.items()]
    graph, arguments = run.graph, list(run.inputs)
    for position, _ in positions:
        arguments[position] = None

    def bound_graph(tensors: Sequence[th.Tensor]) -> Figures:
        for position, i in positions:
            arguments[position] = tensors[i]
        results = graph(*arguments)
        return _out_of_graph_memory({name: results[index] for name, index in named_indices})

    return bound_graph


def _out_of_graph_memory(outputs: Figures) -> Figures:
    """Copies of the outputs on a GPU: the next run of a CUDA graph writes into the same memory."""
    if next(iter(outputs.values())).is_cuda:
        return {name: output.clone() for name, output in outputs.items()}
    return outputs


# ------------------------------------------------------------------- compilation


@cache
def _compiled(function: Callable[..., Figures]) -> Callable[..., Figures]:
    return th.compile(function, backend=_inductor, fullgraph=True, dynamic=False)


def _inductor(graph_module: th.fx.GraphModule, example_inputs: list[Any]) -> Callable[..., Sequence[th.Tensor]]:
    """The backend of ``torch.compile``: Inductor, and a record of every run of the graph."""
    import torch._inductor

    for node in graph_module.graph.nodes:
        if node.target is th.multinomial:
            node.target = _draw_one
    on_cuda = any(isinstance(x, th.Tensor) and x.is_cuda for x in example_inputs)
    _recorder.n_compilations += 1
    with _notice_if_slow(_recorder.name):
        options = _CUDA_OPTIONS if on_cuda else _CPU_OPTIONS
        graph = torch._inductor.compile(graph_module, example_inputs, options=options)
    # `graph` switches Dynamo off while it runs. A bound graph runs without Dynamo and saves the time for that
    bare_graph = getattr(graph, "__wrapped__", graph)

    def run(*inputs: Any) -> Sequence[th.Tensor]:
        outputs = graph(*inputs)
        _recorder.run = _GraphRun(bare_graph, inputs, outputs)
        return outputs

    return run


def _draw_one(probabilities: th.Tensor, n_samples: int, replacement: bool = False) -> th.Tensor:
    """
    Replaces ``th.multinomial`` for one draw, for which Inductor has only a slow fallback.

    It draws as ATen does: outcome i waits for a time of the exponential distribution with rate p_i, and the first one wins.

    :param probabilities: p_i, shape (B, n)
    :param n_samples: always 1 in SB3's distributions
    :param replacement: not used: it makes no difference for one draw
    :return: the indices of the outcomes, shape (B, 1)
    """
    assert n_samples == 1
    return (probabilities / th.empty_like(probabilities).exponential_()).argmax(-1, keepdim=True)


@contextmanager
def _traceable(policy: BasePolicy) -> Iterator[None]:
    """
    Makes a policy traceable for Dynamo, during the block.

    - Dynamo takes numpy's integers and arrays for tensors, whose values it does not know. So sizes become Python integers.
    - ``is_image_space`` reads a space's bounds, which are such arrays. So Dynamo takes its result for a constant of the space,
      and does not trace it. Dynamo compares spaces by identity, so equal spaces are replaced by one of them.
    """
    distribution: Any = policy.action_dist
    replacements: list[tuple[Any, str, Any]] = [(policy, "observation_space", _traceable_space(policy.observation_space))]
    if isinstance(getattr(distribution, "action_dims", None), list):
        replacements.append((distribution, "action_dims", [int(n) for n in distribution.action_dims]))
    originals = [getattr(owner, name) for owner, name, _ in replacements]
    try:
        for owner, name, value in replacements:
            setattr(owner, name, value)
        th.compiler.assume_constant_result(preprocessing.is_image_space)
        yield
    finally:
        vars(preprocessing.is_image_space).pop("_dynamo_marked_constant", None)
        for (owner, name, _), original in zip(replacements, originals, strict=True):
            setattr(owner, name, original)


def _traceable_space(space: spaces.Space) -> spaces.Space:
    """A copy of the space with Python integers, the same one for all equal spaces."""
    for known in _traceable_spaces:
        if known == space:
            return known
    traceable = copy.deepcopy(space)
    for leaf in traceable.values() if isinstance(traceable, spaces.Dict) else (traceable,):
        for name in ("n", "nvec"):
            if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete) and hasattr(leaf, name):
                setattr(leaf, name, np.asarray(getattr(leaf, name)).tolist())
    _traceable_spaces.append(traceable)
    return traceable


_traceable_spaces: list[spaces.Space] = []


@contextmanager
def _notice_if_slow(name: str) -> Iterator[None]:
    """Prints a notice if the block takes long, so that nobody thinks that the program hangs."""

    def print_notice() -> None:
        print(f"crashalgos: compiling {name}; from the cache on disk it will be quicker next time", file=sys.stderr)

    timer = threading.Timer(_SECONDS_BEFORE_NOTICE, print_notice)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def mark_static_addresses(tensors: Iterable[th.Tensor]) -> None:
    """
    Tells Dynamo that tensors keep their place in memory, so that a CUDA graph can change them in place.

    :param tensors: the tensors
    """
    for tensor in tensors:
        if tensor.is_cuda:
            th._dynamo.mark_static_address(tensor)


def _tensors_in(varying: Any) -> list[th.Tensor]:
    """The tensors in nested dicts and tuples, in an order that does not depend on the order of a dict's keys."""
    if isinstance(varying, th.Tensor):
        return [varying]
    found: list[th.Tensor] = []
    for part in [varying[key] for key in sorted(varying)] if isinstance(varying, dict) else varying:
        if isinstance(part, th.Tensor):
            found.append(part)
        else:
            found += _tensors_in(part)
    return found


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
