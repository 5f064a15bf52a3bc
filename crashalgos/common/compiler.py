"""
``torch.compile`` for small functions that are called very often: the one place that knows the compiler.

At every call TorchDynamo checks that nothing a graph depends on has changed (its guards). For networks of SB3's size that is
about as long as the arithmetic. So here the guards are checked at the first call of a *session*, an update or a rollout, and
once for each size of a minibatch in it; the other calls go straight to the graph, with what varies put in its place.
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
from torch.distributions import Distribution

# Gradients are part of a graph; and many graphs of one function are kept, because sweeps and tests make models of many shapes
_DYNAMO_OPTIONS: dict[str, Any] = {"trace_autograd_ops": True, "recompile_limit": 128}
# Calling the kernels from Python takes as long as they do, and so does a second thread in a small one: ATen's grain size
_CPU_OPTIONS: dict[str, Any] = {"cpp_wrapper": True, "cpp.min_chunk_size": 32768}
# Of varying sizes a CUDA graph would be recorded for each, and hardly ever be run again. To skip these, PyTorch would
# partition all graphs, since it takes the indices of loops for varying sizes; with torch 2.11 the norm came out wrong then
_CUDA_OPTIONS: dict[str, Any] = {
    "triton.cudagraphs": True,
    "triton.cudagraph_skip_dynamic_graphs": True,
    "graph_partition": False,
}
#: How often a model may compile the same function for the same sizes: what asks for more will ask again
_MAX_COMPILATIONS = 3
#: A compilation that takes longer than this many seconds is announced
_PATIENCE = 2.0

#: Named tensors: what every compiled function returns
Figures = dict[str, th.Tensor]


class _Call(NamedTuple):
    """One run of a graph, as Dynamo made it."""

    graph: Callable[..., Sequence[th.Tensor]]
    inputs: tuple[Any, ...]
    outputs: Sequence[th.Tensor]


class _Recorder(threading.local):
    """What happens in this thread in a call that Dynamo makes: the run of the graph, and before it perhaps a compilation."""

    call: _Call | None = None
    name: str = ""
    n_compiled: int = 0

    def take(self) -> _Call | None:
        call, self.call = self.call, None
        return call


_recorder = _Recorder()


class Compiler:
    """
    Whether a model compiles: if asked to, until it turns out that a part of it cannot be. From then on all of it runs eagerly,
    which one warning says.

    :param enabled: whether it was asked to
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._compilations: Counter[tuple[str, int | None]] = Counter()

    def session(
        self,
        function: Callable[..., Figures],
        policy: BasePolicy,
        *constants: Any,
        name: str,
        static_size: int | None = None,
    ) -> "Session":
        """
        :param function: ``function(policy, *constants, varying)`` → named tensors; it stands in a module, so that models whose
            policies are alike share its graphs
        :param policy: its first argument
        :param constants: its next arguments; they and the policy are changed only in place while the session lasts
        :param name: what is compiled, for messages
        :param static_size: the number of rows for which a graph of its own pays; all others share one. ``None``: so do all
        :return: the function of ``varying``
        """
        return Session(self, function, policy, constants, name, static_size)

    def count(self, name: str, size: int | None) -> None:
        """
        Take note of a compilation. A Python number that a policy changes at every call, say, makes a new graph every time.

        :param name: what was compiled
        :param size: for which number of rows; ``None``: for any
        """
        self._compilations[name, size] += 1
        if self._compilations[name, size] > _MAX_COMPILATIONS:
            self.give_up(f"{name} had to be compiled again and again: something that it reads is another one each time")

    def give_up(self, reason: str) -> None:
        """
        :param reason: for the warning
        """
        self.enabled = False
        warnings.warn(f"compile=True: running eagerly from now on, because {reason}", stacklevel=2)


class Session:
    """
    The calls of a compiled function in one update or rollout: see :meth:`Compiler.session`.

    :param compiler: whether to compile, still
    :param function: the function
    :param policy: its first argument
    :param constants: its next arguments
    :param name: what is compiled, for messages
    :param static_size: the number of rows that has a graph of its own
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
        self._wired: dict[_Layout, Callable[[Sequence[th.Tensor]], Figures]] = {}

    def __call__(self, varying: Any) -> Figures | None:
        """
        :param varying: the last argument: a tensor, or dicts and tuples of tensors, all with the same number of rows
        :return: what the function returns; ``None`` if this is to be done eagerly
        """
        if not self._compiler.enabled:
            return None
        tensors = _leaves(varying)
        layout = tuple((tensor.dtype, tensor.shape, tensor.stride()) for tensor in tensors)
        if (wired := self._wired.get(layout)) is not None:
            return wired(tensors)
        size = len(tensors[0])
        if size < 2 and size != self._static_size:
            return None  # a graph for any number of rows is one for two and more
        return self._call_guarded(varying, tensors, layout)

    def _call_guarded(self, varying: Any, tensors: Sequence[th.Tensor], layout: "_Layout") -> Figures | None:
        size = len(tensors[0]) if len(tensors[0]) == self._static_size else None
        _recorder.take()
        _recorder.name, _recorder.n_compiled = self._name, 0
        try:
            with without_validation():
                if size is None:
                    for tensor in tensors:
                        th._dynamo.mark_dynamic(tensor, 0)
                with th._dynamo.config.patch(_DYNAMO_OPTIONS), _readable(self._policy):
                    outputs = _compiled(self._function)(self._policy, *self._constants, varying)
        except Exception as error:
            if _recorder.take() is not None:
                raise  # the graph has run, and has changed what it changes
            self._compiler.give_up(f"{self._name} could not be compiled ({type(error).__name__}: {_first_line(error)})")
            return None
        if _recorder.n_compiled:
            self._compiler.count(self._name, size)
        if (call := _recorder.take()) is not None and (wired := _wire(call, tensors, outputs)) is not None:
            self._wired[layout] = wired
        return _copied(outputs)


#: What a graph takes for granted of the tensors that vary
_Layout = tuple[tuple[th.dtype, th.Size, tuple[int, ...]], ...]


def _wire(call: _Call, tensors: Sequence[th.Tensor], outputs: Figures) -> Callable[[Sequence[th.Tensor]], Figures] | None:
    """
    :param call: a run of the graph
    :param tensors: the tensors in it that vary
    :param outputs: what became of the graph's outputs
    :return: the graph as a function of these tensors alone; ``None`` if Dynamo did more than to call it
    """
    graph, inputs, raw_outputs = call
    places = [(place, i) for place, x in enumerate(inputs) for i, tensor in enumerate(tensors) if x is tensor]
    names = {id(output): index for index, output in enumerate(raw_outputs)}
    # An output that is no figure goes where only Dynamo knows: into an attribute of a module, say
    if len(raw_outputs) != len(outputs) or any(id(output) not in names for output in outputs.values()):
        return None
    order = [(name, names[id(output)]) for name, output in outputs.items()]
    arguments = list(inputs)
    for place, _ in places:
        arguments[place] = None

    def run(tensors: Sequence[th.Tensor]) -> Figures:
        for place, i in places:
            arguments[place] = tensors[i]
        results = graph(*arguments)
        return _copied({name: results[index] for name, index in order})

    return run


@cache
def _compiled(function: Callable[..., Figures]) -> Callable[..., Figures]:
    return th.compile(function, backend=_inductor, fullgraph=True, dynamic=False)


@contextmanager
def _readable(policy: BasePolicy) -> Iterator[None]:
    """
    Dynamo takes numpy's integers and arrays for tensors, whose values it does not know. So it is shown sizes that are Python's
    integers, and does not look into ``is_image_space``, which reads the bounds of a space. What that says holds for one space,
    told from others by its identity; it is shown one for all that are equal.

    :param policy: as before afterwards
    """
    shown: list[tuple[Any, str, Any]] = [(policy, "observation_space", _readable_space(policy.observation_space))]
    distribution: Any = policy.action_dist
    if isinstance(getattr(distribution, "action_dims", None), list):
        shown.append((distribution, "action_dims", [int(n) for n in distribution.action_dims]))
    kept = [getattr(owner, name) for owner, name, _ in shown]
    try:
        for owner, name, value in shown:
            setattr(owner, name, value)
        th.compiler.assume_constant_result(preprocessing.is_image_space)
        yield
    finally:
        vars(preprocessing.is_image_space).pop("_dynamo_marked_constant", None)
        for (owner, name, _), value in zip(shown, kept, strict=True):
            setattr(owner, name, value)


def _readable_space(space: spaces.Space) -> spaces.Space:
    for known in _readable_spaces:
        if known == space:
            return known
    readable = copy.deepcopy(space)
    for leaf in readable.values() if isinstance(readable, spaces.Dict) else (readable,):
        for name in ("n", "nvec"):
            if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete) and hasattr(leaf, name):
                setattr(leaf, name, np.asarray(getattr(leaf, name)).tolist())
    _readable_spaces.append(readable)
    return readable


_readable_spaces: list[spaces.Space] = []


def _inductor(graph_module: th.fx.GraphModule, example_inputs: list[Any]) -> Callable[..., Sequence[th.Tensor]]:
    """
    A backend of ``torch.compile``: Inductor, and a note of what each run of the graph got and gave.

    :param graph_module: the traced function
    :param example_inputs: its inputs
    :return: the compiled function
    """
    import torch._inductor

    for node in graph_module.graph.nodes:
        if node.target is th.multinomial:
            node.target = _draw_one
    on_cuda = any(isinstance(x, th.Tensor) and x.is_cuda for x in example_inputs)
    _recorder.n_compiled += 1
    with _announced(_recorder.name):
        options = _CUDA_OPTIONS if on_cuda else _CPU_OPTIONS
        graph = torch._inductor.compile(graph_module, example_inputs, options=options)
    # Within is what runs; the wrapper keeps Dynamo off, which is on in the calls that Dynamo makes alone
    within = getattr(graph, "__wrapped__", graph)

    def run(*inputs: Any) -> Sequence[th.Tensor]:
        outputs = graph(*inputs)
        _recorder.call = _Call(within, inputs, outputs)
        return outputs

    return run


def _draw_one(probabilities: th.Tensor, n_samples: int, replacement: bool = False) -> th.Tensor:
    """
    ``th.multinomial`` for one draw, as ATen makes it: the first to arrive of exponential clocks. Inductor would leave
    ``multinomial`` to a slow fallback.

    :param probabilities: p of each outcome, shape (B, n)
    :param n_samples: must be 1, as SB3's distributions have it
    :param replacement: without meaning for one draw
    :return: indices, shape (B, 1)
    """
    assert n_samples == 1
    return (probabilities / th.empty_like(probabilities).exponential_()).argmax(-1, keepdim=True)


def _copied(outputs: Figures) -> Figures:
    """What a CUDA graph gives lies in its own memory, where its next run writes."""
    if next(iter(outputs.values())).is_cuda:
        return {name: output.clone() for name, output in outputs.items()}
    return outputs


def forget_distribution(policy: BasePolicy) -> None:
    """
    Drops the last distribution, which SB3's policies keep, and with it a graph's own tensors.

    To be called at the end of every function that is compiled and runs the policy.

    :param policy: the policy
    """
    distribution: Any = policy.action_dist
    for name, empty in (("distribution", None), ("distributions", [])):
        if hasattr(distribution, name):
            setattr(distribution, name, empty)


def mark_as_unmoved(tensors: Iterable[th.Tensor]) -> None:
    """
    :param tensors: stay where they are in memory, so that a CUDA graph can change them in place
    """
    for tensor in tensors:
        if tensor.is_cuda:
            th._dynamo.mark_static_address(tensor)


@contextmanager
def without_validation() -> Iterator[None]:
    """
    Distributions do not validate what they get, in the whole process; when the last thread leaves, it is as it was when the
    first one came. ``torch.compile`` switches validation off, too, but for good.
    """
    with _unvalidated.lock:
        if _unvalidated.n_inside == 0:
            _unvalidated.before = Distribution._validate_args
        _unvalidated.n_inside += 1
        Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        with _unvalidated.lock:
            _unvalidated.n_inside -= 1
            if _unvalidated.n_inside == 0:
                Distribution.set_default_validate_args(_unvalidated.before)


class _Unvalidated:
    """Who is in :func:`without_validation`."""

    lock = threading.Lock()
    n_inside = 0
    before = True


_unvalidated = _Unvalidated()


@contextmanager
def _announced(name: str) -> Iterator[None]:
    """Nobody should take a compilation for a hang."""

    def announce() -> None:
        print(f"crashalgos: compiling {name}; from the cache on disk it will be quicker next time", file=sys.stderr)

    timer = threading.Timer(_PATIENCE, announce)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _leaves(varying: Any) -> tuple[th.Tensor, ...]:
    if isinstance(varying, th.Tensor):
        return (varying,)
    if isinstance(varying, dict):
        varying = [varying[key] for key in sorted(varying)]
    return tuple(tensor for part in varying for tensor in _leaves(part))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
