"""The options that every command on a MODEL takes, and the graph that they ask for."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from graphc.cli.model import Model, load_model
from graphc.diagnostics import closest, fail
from graphc.ir.graph import Graph, InputKind
from graphc.primitives.verify import verify_graph
from graphc.symbol import Symbol
from graphc.types import DType

if TYPE_CHECKING:
    from graphc.driver.compile import Options as CompileOptions
    from graphc.optimizer import Optimizer

F = TypeVar("F", bound=Callable[..., Any])

Shapes = Mapping[str, tuple[int | str, ...]]

TARGETS = ("cpu", "gpu", "reference")


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for about a MODEL; `graph` loads it and builds the graph."""

    model: str
    shapes: Shapes
    dtypes: Mapping[str, str]
    train: bool
    optimizer: str
    sizes: Mapping[str, int]
    seed: int
    target: str
    memory_budget: str = ""

    def compile_options(self, memory: str = "optimal") -> CompileOptions:
        """How to compile: within the memory budget, for the sizes that are given."""
        from graphc.driver.compile import Options

        return Options(memory=memory, memory_budget=self.memory_budget or None, budget_sizes=dict(self.sizes))

    def graph(self) -> Graph:
        """The graph before any pass: forward, with gradients, or the whole training step."""
        model = load_model(self.model)
        shapes = {**self._file_shapes(model), **self.shapes}
        if self.optimizer:
            return training_step(model.value, shapes, self.dtypes, make_optimizer(self.optimizer))
        forward = forward_graph(model.value, shapes, self.dtypes, self.train)
        return gradient_graph(forward) if self.train else forward

    def _file_shapes(self, model: Model) -> Shapes:
        # One table may serve several models of a file, Graphs among them.
        known = model.value.list_arguments() if isinstance(model.value, Symbol) else ()
        return {name: shape for name, shape in model.shapes.items() if name in known}

    def learning_rate(self) -> float | None:
        """The rate that --optimizer names; None without an optimizer."""
        return make_optimizer(self.optimizer).learning_rate if self.optimizer else None

    def sizes_for(self, graph: Graph) -> dict[str, int]:
        """Sizes of the graph's named dimensions; a usage error names those that --size leaves out."""
        unknown = [name for name in self.sizes if name not in graph.symbols]
        if unknown:
            known = ", ".join(graph.symbols) or "none"
            raise click.UsageError(
                f"no dimension is named {unknown[0]!r}; the model's named dimensions: {known}"
            )
        missing = [name for name in graph.symbols if name not in self.sizes]
        if missing:
            example = " ".join(f"--size {name}=64" for name in missing)
            raise click.UsageError(
                f"the model has named dimensions without a size; add for example {example}"
            )
        return dict(self.sizes)


def forward_graph(model: Symbol | Graph, shapes: Shapes, dtypes: Mapping[str, str], is_train: bool) -> Graph:
    """Trace a Symbol with these shapes, or check a Graph.

    Arguments without a shape are parameters, but for those named *_label: MXNet's convention for data of a loss.
    """
    if isinstance(model, Graph):
        if shapes or dtypes:
            raise click.UsageError("a Graph has its shapes and types; --shape and --dtype are for Symbols")
        verify_graph(model)
        return model
    from graphc.symbol.trace import trace

    check_names(model, shapes, dtypes)
    parameters = [
        name for name in model.list_arguments() if name not in shapes and not name.endswith("_label")
    ]
    return trace(model, shapes, element_types(shapes, dtypes), is_train, parameters=parameters)


def check_names(symbol: Symbol, shapes: Shapes, dtypes: Mapping[str, str]) -> None:
    """Usage error for a shape or type of a name that the Symbol does not have."""
    known = [*symbol.list_arguments(), *symbol.list_auxiliary_states()]
    for name in (*shapes, *filter(None, dtypes)):
        if name not in known:
            raise click.UsageError(
                f"the model has no input {name!r}; {closest(name, known) or ', '.join(known)}"
            )


def element_types(shapes: Shapes, dtypes: Mapping[str, str]) -> dict[str, str]:
    """Element types by input name; the type given without a name counts for every input that has a shape."""
    everywhere = dict.fromkeys(shapes, dtypes[""]) if "" in dtypes else {}
    return everywhere | {name: dtype for name, dtype in dtypes.items() if name}


def with_labels(symbol: Symbol, shapes: Shapes) -> dict[str, tuple[Any, ...]]:
    """The shapes, and those of labels (*_label) that follow from them."""
    names = symbol.list_arguments()
    labels = [name for name in names if name.endswith("_label") and name not in shapes]
    if not labels:
        return dict(shapes)
    inferred = dict(zip(names, symbol.infer_shape(**shapes)[0], strict=True))
    return dict(shapes) | {name: inferred[name] for name in labels}


def gradient_graph(graph: Graph) -> Graph:
    """The graph with the gradients of all its parameters; error G404 when it has none."""
    from graphc.passes.attention import RecognizeAttention
    from graphc.passes.gradient import gradient

    parameters = [item.name for item in graph.inputs if item.kind is InputKind.PARAMETER]
    if not parameters:
        raise fail("G404", f"{graph.name} has no parameters to take gradients of")
    return gradient(RecognizeAttention()(graph), parameters)


def make_optimizer(text: str) -> Optimizer:
    """The optimizer of `sgd,learning_rate=0.1,momentum=0.9`; errors G101 and G102 for unknown names."""
    from graphc.optimizer import create

    name, _, rest = text.partition(",")
    return create(name.strip(), **_keywords(rest))


def training_step(
    model: Symbol | Graph, shapes: Shapes, dtypes: Mapping[str, str], optimizer: Optimizer
) -> Graph:
    """Forward, gradients and optimizer update as one graph."""
    from graphc.training import training_graph

    if isinstance(model, Graph):
        return training_graph(forward_graph(model, shapes, dtypes, True), optimizer)
    check_names(model, shapes, dtypes)
    return training_graph(
        model, optimizer, shapes=with_labels(model, shapes), dtypes=element_types(shapes, dtypes)
    )


def _keywords(text: str) -> dict[str, Any]:
    """Read `learning_rate=0.1,momentum=0.9`."""
    result: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise click.UsageError(
                f"--optimizer {item!r}: write for example sgd,learning_rate=0.1,momentum=0.9"
            )
        result[key.strip()] = _literal(value.strip())
    return result


def _literal(text: str) -> float | bool | None:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        raise click.UsageError(f"--optimizer: {text!r} is no number, nor true, false or none") from None


# Options on the command line


def _shapes(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> Shapes:
    result: dict[str, tuple[int | str, ...]] = {}
    for text in values:
        name, equals, dims = text.partition("=")
        dims = dims.strip().removeprefix("(").removesuffix(")")
        words = [word.strip() for word in dims.split(",") if word.strip()]
        if not equals or not name or not all(word.isdigit() or word.isidentifier() for word in words):
            raise click.BadParameter(
                f"{text!r} is no shape; write data=64,784 or data=N,784", context, option
            )
        result[name.strip()] = tuple(int(word) if word.isdigit() else word for word in words)
    return result


def _dtypes(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    result = {}
    for text in values:
        name, _, dtype = text.rpartition("=")
        try:
            result[name.strip()] = str(DType.of(dtype.strip()))
        except TypeError as error:
            raise click.BadParameter(str(error), context, option) from None
    return result


def _sizes(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    result = {}
    for text in values:
        name, _, size = text.partition("=")
        if not name.strip().isidentifier() or not size.strip().isdigit() or int(size) == 0:
            raise click.BadParameter(f"{text!r} is no size; write N=64", context, option)
        result[name.strip()] = int(size)
    return result


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """A warning as one line of talk; its place in the sources tells users nothing."""
    click.echo(f"warning: {message}", err=True)


def model_options(function: F) -> F:
    """Add MODEL and its options to a command, which takes them as one `request: Request`."""

    @functools.wraps(function)
    def command(*args: Any, **given: Any) -> Any:
        fields = {name: given.pop(name) for name in Request.__dataclass_fields__}
        with warnings.catch_warnings():
            warnings.simplefilter("always", RuntimeWarning)
            warnings.showwarning = _show_warning
            return function(*args, request=Request(**fields), **given)

    decorators = (
        click.argument("model"),
        click.option("--shape", "shapes", multiple=True, metavar="NAME=DIMS", callback=_shapes,
                     help="Shape of a data input: data=64,784; a word names a dimension: data=N,784."),
        click.option("--dtype", "dtypes", multiple=True, metavar="[NAME=]TYPE", callback=_dtypes,
                     help="Element type of one data input, or of all: f32 (default), f16, bf16, f64 ..."),
        click.option("--train", is_flag=True, help="Forward and gradients of all parameters."),
        click.option("--optimizer", default="", metavar="NAME[,KEY=VALUE]",
                     help="A whole training step: sgd,learning_rate=0.1,momentum=0.9."),
        click.option("--size", "sizes", multiple=True, metavar="NAME=SIZE", callback=_sizes,
                     help="Size of a named dimension: N=64."),
        click.option("--seed", default=0, show_default=True, help="Seed of random inputs and parameters."),
        click.option("--target", type=click.Choice(TARGETS), default="cpu", show_default=True,
                     help="Generated C++, generated Triton, or torch."),
        click.option("--memory-budget", default="", metavar="SIZE",
                     help="At most so much memory (2GB, 512MiB), or this part of the plain plan's arena (0.25)."),
    )  # fmt: skip
    for decorator in reversed(decorators):
        command = decorator(command)
    return cast(F, command)
