"""Executable: a compiled program as a callable on torch tensors, numpy arrays or NDArrays.

    step = graphc.compile(training_graph(net, SGD(0.1), shapes={"data": (64, 784), ...}))
    step.initialize(Xavier())
    probabilities = step(data=x, softmax_label=y, learning_rate=0.1)
    weights = step.states["fc1_weight"]

Data inputs come with each call and are read in place when dense. Parameters and states live in the executable and are
updated there. Outputs are new arrays on each call, never changed by a later one; their memory is reused once the
caller has dropped them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from graphc.diagnostics import closest, fail
from graphc.driver import random
from graphc.driver.arguments import Arguments, as_tensor, size_solver, wrapper
from graphc.driver.backend import Backend, Frame, no_memory
from graphc.driver.bound import BoundCall, read_in_place
from graphc.driver.constants import Constants, mark_written
from graphc.driver.cpu_backend import CpuFrame
from graphc.driver.frames import FramePool
from graphc.driver.initializer import Initializer
from graphc.driver.interface import Interface
from graphc.ir.graph import Graph, Input, InputKind
from graphc.ir.kernel import Kernel
from graphc.ir.program import Plan, Program
from graphc.primitives.concrete import check_sizes

RANDOM_STATE = "random_state"
_Tensors = Mapping[str, torch.Tensor]
_STATISTICS = ("moving_mean", "moving_var", "running_mean", "running_var")


def _run(frame: Frame) -> None:
    frame.run()


class Executable:
    """A compiled graph; call it with the data inputs by name, or in the graph's order."""

    def __init__(
        self, interface: Interface, graphs: Callable[[], tuple[Graph, Graph]], backend: Backend
    ) -> None:
        """`graphs` gives the declared and the optimized graph: a program found in the cache starts without them."""
        self.build_report: dict[str, float] = {}
        self._interface, self._graphs, self._backend = interface, graphs, backend
        # An input that nothing reads, a label at inference say, is neither held nor asked for.
        self._held = {
            item.name: item
            for item in interface.inputs
            if item.kind is not InputKind.DATA
            and (item.name in interface.used or item.name in interface.updated)
        }
        self._arguments = Arguments(interface, self._held, backend.device)
        self._index = dict(backend.bindings.inputs)
        self._outputs = backend.bindings.outputs
        self._solve = size_solver(self._arguments.data, backend.bindings.symbols)
        self._frames = FramePool()
        self._lock = threading.Lock()
        self._constants = Constants(backend.prologue) if backend.prologue is not None else None
        # States are written by a run, so runs of a program with updates follow one another.
        self._run_lock = threading.Lock() if interface.updated else None
        # An output that is an input, a state or a constant is copied after the run.
        self._plain = not any(output.copied for output in self._outputs)
        self._states: dict[str, torch.Tensor] = {}
        self._unset: set[str] = set()
        self._make_states()
        # Parameters that only constants are made of are not bound: reading hundreds of addresses takes a while.
        touched = backend.bindings.touched
        self._run_states = [name for name in self._states if self._index.get(name) in touched]
        self._state_places = tuple(self._index[name] for name in self._run_states)
        self._hold()

    @classmethod
    def of(cls, graph: Graph, optimized: Graph, backend: Backend) -> Executable:
        """The executable of a graph that is at hand."""
        return cls(Interface.of(graph, optimized), lambda: (graph, optimized), backend)

    # What was compiled

    @property
    def graph(self) -> Graph:
        """The graph as it was declared."""
        return self._graphs()[0]

    @property
    def optimized(self) -> Graph:
        """The graph after all passes."""
        return self._graphs()[1]

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs of a call, in order."""
        return self._interface.outputs

    @property
    def program(self) -> Program:
        return self._backend.program

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The fused kernels, in launch order of their first use."""
        return self._backend.program.kernels

    @property
    def source(self) -> Mapping[str, str]:
        """Generated sources by file name."""
        return self._backend.sources

    @property
    def target(self) -> str:
        """cpu, gpu or reference."""
        return self._backend.name

    @property
    def backend(self) -> Backend:
        return self._backend

    @property
    def data_inputs(self) -> tuple[Input, ...]:
        """The inputs of a call, in positional order; one that nothing reads may be left out."""
        return self._arguments.data

    def plan(self, **sizes: int) -> Plan:
        """The memory plan for sizes of the symbolic dimensions (none for a static graph)."""
        missing = [name for name in self.optimized.symbols if name not in sizes]
        if missing:
            raise fail(
                "G602",
                f"the plan of {self._interface.name} needs sizes of {', '.join(missing)}",
                help="plan(N=64)",
            )
        return self._backend.plan(sizes)

    def memory(self, **sizes: int) -> dict[str, Any]:
        """Bytes by category, the arena beside its bounds, and the tensors live at the peak with the user's lines.

        Known before anything runs; JSON-ready. `graphc dump --stage plan` prints the same.
        """
        from graphc.passes.memory import memory_report

        return memory_report(self.program, self.plan(**sizes))

    def refresh_constants(self) -> Executable:
        """Say that a parameter was written behind torch's back, so that what is computed from it is made again.

        Packed weights and the like are kept between calls. Whatever torch writes in place is noticed without this,
        and so is what `set_states`, `initialize`, `share_state` and the updates of another Executable write; a
        write through `numpy()`, `Tensor.data` or a raw pointer is not.
        """
        if self._constants is not None:
            self._constants.forget()
        return self

    # States

    def _make_states(self) -> None:
        for name, item in self._held.items():
            if not item.value.type.is_static:
                raise fail(
                    "G206",
                    f"{item.kind.value} {name!r} has the symbolic shape {item.value.type}; it must be fixed",
                    name=name,
                    help="only data inputs may have named dimensions",
                )
            state = self._held_memory(item)
            if name == RANDOM_STATE:
                state[0] = random.next_seed()
            self._states[name] = state
            if item.kind is InputKind.PARAMETER:
                self._unset.add(name)

    def _hold(self) -> None:
        """What each call binds, and what it writes, of the present states."""
        self._bound_states = [self._states[name] for name in self._run_states]
        self._written = [self._states[name] for name in self._interface.updated]

    def _held_memory(self, item: Input) -> torch.Tensor:
        """Memory for a parameter or state; G606 when there is none."""
        what = f"{item.kind.value} {item.name!r} of {self._interface.name}"
        try:
            return self._backend.state(item.value.type)
        except (MemoryError, RuntimeError) as error:
            raise no_memory(what, item.value.type, {}, error) from error

    @property
    def states(self) -> Mapping[str, torch.Tensor]:
        """Parameters and states by name: the executable's own memory; write into it with `set_states`."""
        return self._states

    def set_states(self, values: Mapping[str, Any], allow_extra: bool = False) -> Executable:
        """Copy values into parameters and states; all names and shapes are checked before any is written."""
        checked = []
        for name, value in values.items():
            item = self._held.get(name)
            if item is None:
                # A parameter of the model that this program does not read is no mistake.
                if allow_extra or name in self._interface.declared:
                    continue
                raise fail(
                    "G601", f"no parameter or state is named {name!r}", help=closest(name, list(self._held))
                )
            tensor = as_tensor(name, value)
            if tuple(tensor.shape) != tuple(self._states[name].shape):
                raise fail("G602", f"{name!r} is {item.value.type}, given {tuple(tensor.shape)}", name=name)
            checked.append((name, tensor))
        with self._run_lock or self._lock:
            for name, tensor in checked:
                self._states[name].copy_(tensor)
                self._unset.discard(name)
        return self.refresh_constants()

    def share_state(self, name: str, tensor: torch.Tensor) -> None:
        """Let a parameter or state be the caller's tensor: dense, same type and device; runs write into it.

        The caller may go on writing into it; see `refresh_constants`.
        """
        held = self._states[name]
        if tensor.shape != held.shape or tensor.dtype != held.dtype or not tensor.is_contiguous():
            raise fail("G602", f"{name!r} needs a dense {self._held[name].value.type}", name=name)
        self._states[name] = tensor
        self._hold()
        self._unset.discard(name)
        self.refresh_constants()

    def initialize(self, initializer: Initializer, only: Iterable[str] | None = None) -> Executable:
        """Fill parameters and moving statistics by their names; an optimizer's states stay zero."""
        names = set(only) if only is not None else None
        for name, item in self._held.items():
            if (names is None and (item.kind is InputKind.PARAMETER or name.endswith(_STATISTICS))) or (
                names is not None and name in names
            ):
                initializer(name, self._states[name])
                self._unset.discard(name)
        return self.refresh_constants()

    def set_defaults(self, **values: Any) -> Executable:
        """Values of data inputs for calls that leave them out, such as a learning rate."""
        for name, value in values.items():
            item = next((item for item in self._arguments.data if item.name == name), None)
            if item is None:
                raise fail("G601", f"{self._interface.name} has no data input {name!r}")
            self._arguments.defaults[name] = self._arguments.dense(item, value)
        return self

    def source_paths(self) -> tuple[str, ...]:
        """Where the generated sources lie on disk."""
        return self._backend.source_paths

    def seed(self, value: int) -> Executable:
        """Restart the random bits (dropout) from a seed; a graph without any ignores it."""
        if RANDOM_STATE in self._states:
            self._states[RANDOM_STATE][0] = value
            self._states[RANDOM_STATE][1] = 0
        return self

    # Calls

    def __call__(self, *arguments: Any, out: Mapping[str, Any] | None = None, **named: Any) -> Any:
        """Run once; one array, or a tuple in the order of the graph's outputs.

        `out` maps names of outputs to dense arrays of the right type that are written in place of fresh ones.
        """
        results, wrap = self._call(arguments, named, out)
        if len(results) == 1:
            return wrap(results[0])
        return tuple(map(wrap, results))

    def run(self, *arguments: Any, out: Mapping[str, Any] | None = None, **named: Any) -> dict[str, Any]:
        """Run once and give the outputs by name; see `__call__`."""
        results, wrap = self._call(arguments, named, out)
        return {output.name: wrap(tensor) for output, tensor in zip(self._outputs, results, strict=True)}

    def profile(self, *arguments: Any, **named: Any) -> list[float]:
        """Run once, updates included; the seconds of each step of `program.steps`. Error G506 where not on a CPU."""
        seconds: list[float] = []

        def execute(frame: Frame) -> None:
            if not isinstance(frame, CpuFrame):
                raise fail("G506", f"the steps of target {self.target} are not timed", help='target="cpu"')
            seconds.extend(frame.profile())

        self._call(arguments, named, None, execute)
        return seconds

    def bind(self, *arguments: Any, out: Mapping[str, Any] | None = None, **named: Any) -> BoundCall:
        """A call with these arrays fixed, for loops where even the checks of a call count (see `BoundCall`).

        Arrays are read where they lie on each run, so they must be dense; numbers stay what they are. G602 otherwise.
        """
        tensors, sizes, given, wrap = self._prepare(arguments, named, out)
        for name, value in (self._arguments.by_name(arguments, named) if arguments else named).items():
            if name in tensors:
                read_in_place(name, value, tensors[name])
        frame = self._frame(sizes)
        results = self._bind_results(frame, sizes, given)
        lock = self._run_lock or threading.Lock()

        def execute() -> None:
            with lock:
                self._execute(frame, tensors, results, _run)

        return BoundCall(
            execute,
            {output.name: result for output, result in zip(self._outputs, results, strict=True)},
            wrap,
        )

    def _call(
        self,
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        out: Mapping[str, Any] | None,
        execute: Callable[[Frame], None] = _run,
    ) -> tuple[list[torch.Tensor], Callable[[torch.Tensor], Any]]:
        tensors, sizes, given, wrap = self._prepare(arguments, named, out)
        key = tuple(sizes.values())
        if self._run_lock is None:
            return self._run(key, sizes, tensors, given, execute), wrap
        with self._run_lock:
            return self._run(key, sizes, tensors, given, execute), wrap

    def _prepare(
        self, arguments: tuple[Any, ...], named: dict[str, Any], out: Mapping[str, Any] | None
    ) -> tuple[_Tensors, dict[str, int], _Tensors, Callable[[torch.Tensor], Any]]:
        """The tensors of a call, the sizes that they give, the outputs given, and how results are handed back."""
        if arguments:
            named = self._arguments.by_name(arguments, named)
        tensors = self._arguments.check(named)
        if self._unset and (missing := sorted(self._unset - named.keys())):
            raise fail(
                "G603",
                f"{self._interface.name}: no value yet for {', '.join(missing)}",
                help="initialize(Xavier()), set_states({...}) or compile(..., parameters={...})",
            )
        sizes = self._solve(tensors)
        return tensors, sizes, self._check_out(out, sizes) if out else {}, wrapper(named)

    def _run(
        self,
        key: tuple[int, ...],
        sizes: dict[str, int],
        tensors: _Tensors,
        given: _Tensors,
        execute: Callable[[Frame], None],
    ) -> list[torch.Tensor]:
        frame = self._frames.take(key) or self._frame(sizes)
        results = self._bind_results(frame, sizes, given)
        self._execute(frame, tensors, results, execute)
        self._frames.give(key, frame)
        return results

    def _bind_results(self, frame: Frame, sizes: Mapping[str, int], given: _Tensors) -> list[torch.Tensor]:
        """Bind the outputs to the caller's memory, or to fresh memory; G606 when there is none."""
        results: list[torch.Tensor] = []
        output = None
        try:
            for output in self._outputs:
                result = given[output.name] if output.name in given else frame.output(output.buffer)
                if not output.copied:
                    frame.bind(output.buffer, result)
                results.append(result)
        except (MemoryError, RuntimeError) as error:
            assert output is not None
            what = f"output {output.name!r} of {self._interface.name}"
            raise no_memory(what, output.type, sizes, error) from error
        return results

    def _execute(
        self, frame: Frame, tensors: _Tensors, results: list[torch.Tensor], execute: Callable[[Frame], None]
    ) -> None:
        """Run a frame on the present states and constants; under the lock where the program has updates."""
        index = self._index
        frame.bind_states(self._state_places, self._bound_states)
        for name, tensor in tensors.items():
            if name in index:
                frame.bind(index[name], tensor)
        made: Mapping[str, torch.Tensor] = {}
        if self._constants is not None:
            made = self._constants_for(self._constants, tensors)
            if made is not frame.constants:
                for name, tensor in made.items():
                    frame.bind(index[name], tensor)
                # Those of one call only are not held.
                frame.constants = made if self._constants.reads.isdisjoint(tensors) else None
        try:
            execute(frame)
        finally:
            # Also after Ctrl-C: the run has ended, and has written.
            if self._written:
                mark_written(self._written)
        if not self._plain:
            for result, output in zip(results, self._outputs, strict=True):
                if output.copied:
                    # An output that is an input, a state or a constant: a copy, so nothing changes under the caller.
                    result.copy_(self._source(output.buffer, {**tensors, **made}).view(result.shape))

    def _constants_for(
        self, constants: Constants, tensors: Mapping[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        """The constant buffers of a call; a parameter that comes with the call is for this call only."""
        if constants.reads.isdisjoint(tensors):
            return constants.current(self._states)
        return constants.made_from({**self._states, **tensors})

    def _check_out(self, out: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
        types = {output.name: output.type for output in self._outputs}
        given = {}
        for name, value in out.items():
            if name not in types:
                raise fail(
                    "G601", f"{self._interface.name} has no output {name!r}", help=closest(name, list(types))
                )
            tensor = as_tensor(name, value)
            type = types[name]
            if (
                tensor.dtype is not type.dtype.torch
                or tuple(tensor.shape) != type.concrete_shape(sizes)
                or not tensor.is_contiguous()
                or tensor.device != self._backend.device
            ):
                raise fail(
                    "G602",
                    f"output {name!r} needs a dense {type}, given {tensor.dtype} {tuple(tensor.shape)}",
                )
            given[name] = tensor
        return given

    def _source(self, index: int, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        name = next(name for name, position in self._index.items() if position == index)
        return tensors[name] if name in tensors else self._states[name]

    def _frame(self, sizes: Mapping[str, int]) -> Frame:
        if sizes:
            check_sizes(self.optimized, sizes)
        return self._backend.frame(sizes)
