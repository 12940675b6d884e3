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

from graphc.diagnostics import Diagnostic, GraphcError, closest, fail
from graphc.driver import random
from graphc.driver.arguments import as_tensor, is_scalar, size_solver, wrapper
from graphc.driver.backend import Backend, CpuBackend, CpuFrame, Frame, allocated
from graphc.driver.constants import Constants, mark_written
from graphc.driver.frames import FramePool
from graphc.driver.initializer import Initializer
from graphc.ir.graph import Graph, Input, InputKind
from graphc.ir.kernel import Kernel
from graphc.ir.program import Plan, Program, Role
from graphc.passes.memory import memory_report
from graphc.primitives.concrete import check_sizes
from graphc.types import TensorType

RANDOM_STATE = "random_state"
_STATISTICS = ("moving_mean", "moving_var", "running_mean", "running_var")


class Executable:
    """A compiled graph; call it with the data inputs by name, or in the graph's order."""

    def __init__(self, graph: Graph, optimized: Graph, backend: Backend, report: Mapping[str, float]) -> None:
        self.graph = graph
        self.optimized = optimized
        self.build_report = dict(report)
        self._backend = backend
        used = {value.name for node in optimized.nodes for value in node.inputs} | optimized.results
        updated = {update.target for update in optimized.updates}
        self._used = used
        self._data = [item for item in optimized.inputs if item.kind is InputKind.DATA]
        # An input that nothing reads, a label at inference say, is neither held nor asked for.
        self._held = {
            item.name: item
            for item in optimized.inputs
            if item.kind is not InputKind.DATA and (item.name in used or item.name in updated)
        }
        buffers = backend.program.buffers
        self._index = dict(backend.program.inputs)
        self._outputs = [(name, index, buffers[index]) for name, index in backend.program.outputs]
        self._solve = size_solver(self._data, backend.program.symbols)
        self._frames = FramePool()
        self._lock = threading.Lock()
        self._constants = Constants(backend.prologue) if backend.prologue is not None else None
        # States are written by a run, so runs of a program with updates follow one another.
        self._run_lock = threading.Lock() if optimized.updates else None
        self._defaults: dict[str, torch.Tensor] = {}
        self._states: dict[str, torch.Tensor] = {}
        self._unset: set[str] = set()
        self._make_states()

    # What was compiled

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
        return tuple(self._data)

    def plan(self, **sizes: int) -> Plan:
        """The memory plan for sizes of the symbolic dimensions (none for a static graph)."""
        missing = [name for name in self.optimized.symbols if name not in sizes]
        if missing:
            raise fail(
                "G602",
                f"the plan of {self.graph.name} needs sizes of {', '.join(missing)}",
                help="plan(N=64)",
            )
        return self._backend.plan(sizes)

    def memory(self, **sizes: int) -> dict[str, Any]:
        """Bytes by category, the arena beside its bounds, and the tensors live at the peak with the user's lines.

        Known before anything runs; JSON-ready. `graphc dump --stage plan` prints the same.
        """
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

    def _held_memory(self, item: Input) -> torch.Tensor:
        """Memory for a parameter or state; G606 when there is none."""
        what = f"{item.kind.value} {item.name!r} of {self.graph.name}"
        return allocated(what, item.value.type, {}, lambda: self._backend.state(item.value.type))

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
                if allow_extra or name in self.graph.input_by_name:
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
            item = next((item for item in self._data if item.name == name), None)
            if item is None:
                raise fail("G601", f"{self.graph.name} has no data input {name!r}")
            self._defaults[name] = self._dense(item, value)
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
        results, wrap = self._call(arguments, named, out or {})
        arrays = [wrap(tensor) for tensor in results]
        return arrays[0] if len(arrays) == 1 else tuple(arrays)

    def run(self, *arguments: Any, out: Mapping[str, Any] | None = None, **named: Any) -> dict[str, Any]:
        """Run once and give the outputs by name; see `__call__`."""
        results, wrap = self._call(arguments, named, out or {})
        return {name: wrap(tensor) for (name, _, _), tensor in zip(self._outputs, results, strict=True)}

    def profile(self, *arguments: Any, **named: Any) -> list[float]:
        """Run once, updates included; the seconds of each step of `program.steps`. Error G506 where not on a CPU."""
        if not isinstance(self._backend, CpuBackend):
            raise fail("G506", f"the steps of target {self.target} are not timed", help='target="cpu"')
        seconds: list[float] = []

        def execute(frame: Frame) -> None:
            assert isinstance(frame, CpuFrame)
            seconds.extend(frame.profile())

        self._call(arguments, named, {}, execute)
        return seconds

    def _call(
        self,
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        out: Mapping[str, Any],
        execute: Callable[[Frame], None] = lambda frame: frame.run(),
    ) -> tuple[list[torch.Tensor], Callable[[torch.Tensor], Any]]:
        if arguments:
            named = self._positional(arguments, named)
        tensors = self._check(named)
        if self._unset and (missing := sorted(self._unset - named.keys())):
            raise fail(
                "G603",
                f"{self.graph.name}: no value yet for {', '.join(missing)}",
                help="initialize(Xavier()), set_states({...}) or compile(..., parameters={...})",
            )
        sizes = self._solve(tensors)
        key = tuple(sizes.values())
        given = self._check_out(out, sizes) if out else {}
        if self._run_lock is None:
            results = self._run(key, sizes, tensors, given, execute)
        else:
            with self._run_lock:
                results = self._run(key, sizes, tensors, given, execute)
        return results, wrapper(named)

    def _run(
        self,
        key: tuple[int, ...],
        sizes: dict[str, int],
        tensors: dict[str, torch.Tensor],
        given: Mapping[str, torch.Tensor],
        execute: Callable[[Frame], None],
    ) -> list[torch.Tensor]:
        frame = self._frames.take(key, lambda: self._frame(sizes))
        index = self._index
        for name, state in self._states.items():
            if name in index:
                frame.bind(index[name], state)
        for name, tensor in tensors.items():
            if name in index:
                frame.bind(index[name], tensor)
        if self._constants is not None:
            made = self._constants_for(self._constants, tensors)
            for name, tensor in made.items():
                frame.bind(index[name], tensor)
            tensors = {**tensors, **made}
        results: list[torch.Tensor] = []
        for name, position, buffer in self._outputs:
            result = given[name] if name in given else self._fresh(name, buffer.type, sizes)
            if buffer.role is Role.OUTPUT:
                frame.bind(position, result)
            results.append(result)
        execute(frame)
        if self._run_lock is not None:
            mark_written(self._written)
        self._frames.give(key, frame)
        for result, (_, position, buffer) in zip(results, self._outputs, strict=True):
            if buffer.role is not Role.OUTPUT:
                # An output that is an input, a state or a constant: a copy, so nothing changes under the caller.
                result.copy_(self._source(position, tensors).view(result.shape))
        return results

    def _fresh(self, name: str, type: TensorType, sizes: Mapping[str, int]) -> torch.Tensor:
        """Memory for an output; G606 when there is none."""
        what = f"output {name!r} of {self.graph.name}"
        return allocated(what, type, sizes, lambda: self._backend.output(type, sizes))

    def _constants_for(
        self, constants: Constants, tensors: Mapping[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        """The constant buffers of a call; a parameter that comes with the call is for this call only."""
        if constants.reads.isdisjoint(tensors):
            return constants.current(self._states)
        return constants.made_from({**self._states, **tensors})

    @property
    def _written(self) -> list[torch.Tensor]:
        return [self._states[update.target] for update in self.optimized.updates]

    def _check_out(self, out: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
        types = {name: buffer.type for name, _, buffer in self._outputs}
        given = {}
        for name, value in out.items():
            if name not in types:
                raise fail(
                    "G601", f"{self.graph.name} has no output {name!r}", help=closest(name, list(types))
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
        check_sizes(self.optimized, sizes)
        return self._backend.frame(sizes)

    def _positional(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        if len(arguments) > len(self._data):
            raise fail(
                "G601", f"{self.graph.name} takes {len(self._data)} data inputs, given {len(arguments)}"
            )
        result = dict(named)
        for item, value in zip(self._data, arguments, strict=False):
            if item.name in result:
                raise fail("G601", f"input {item.name!r} is given twice, by position and by name")
            result[item.name] = value
        return result

    def _check(self, named: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Every data input as a dense tensor of the declared dtype and static dims; errors name the input."""
        tensors = {}
        for item in self._data:
            name = item.name
            if name not in named:
                if name not in self._used:
                    continue
                if name in self._defaults:
                    tensors[name] = self._defaults[name]
                    continue
                given = [key for key in named if key not in self.optimized.input_by_name]
                hint = f"{given[0]!r} is no input; " if given else ""
                wanted = ", ".join(i.name for i in self._data)
                raise fail(
                    "G601", f"{self.graph.name}: input {name!r} is missing", help=f"{hint}inputs are {wanted}"
                )
            tensors[name] = self._dense(item, named[name])
        if len(named) != len(tensors):
            for name, value in named.items():
                if name in tensors or (name in self.optimized.input_by_name and name not in self._used):
                    continue
                held = self._held.get(name)
                if held is None:
                    raise fail(
                        "G601",
                        f"{self.graph.name} has no input {name!r}",
                        help=closest(name, list(self.optimized.input_by_name)) or "see .graph.inputs",
                    )
                if any(update.target == name for update in self.optimized.updates):
                    raise fail(
                        "G601", f"{name!r} is updated by the program; set it with set_states", name=name
                    )
                tensors[name] = self._dense(held, value)
        return tensors

    def _dense(self, item: Input, value: Any) -> torch.Tensor:
        type = item.value.type
        tensor = value if isinstance(value, torch.Tensor) else as_tensor(item.name, value, type.dtype.torch)
        if tensor.dtype is not type.dtype.torch:
            raise GraphcError(
                Diagnostic(
                    "G605",
                    f"input {item.name!r} is {type}, given {tensor.dtype}",
                    name=item.name,
                    help=f"convert it, for example x.to(torch.{str(type.dtype.torch).removeprefix('torch.')})",
                )
            )
        shape = tensor.shape
        if len(shape) != len(type.shape) or any(
            isinstance(dim, int) and dim != extent for dim, extent in zip(type.shape, shape, strict=True)
        ):
            raise fail("G602", f"input {item.name!r} is {type}, given shape {tuple(shape)}", name=item.name)
        if tensor.device != self._backend.device:
            tensor = self._moved(item, tensor)
        return tensor if tensor.is_contiguous() else tensor.contiguous()

    def _moved(self, item: Input, tensor: torch.Tensor) -> torch.Tensor:
        if not is_scalar(item):
            raise fail(
                "G607",
                f"input {item.name!r} lies on {tensor.device}, the program runs on {self._backend.device}",
                name=item.name,
                help=f"move it once, with .to({str(self._backend.device)!r})",
            )
        return tensor.to(self._backend.device)
