"""graphc: declared Symbol graphs, compiled to fused C++ and Triton kernels.

`import graphc as mx` offers the names that users of Symbol graphs know. Each is loaded when it is first
read, so that `import graphc` and the command line's help cost milliseconds.
"""

import gc
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphc import driver, lr_scheduler, optimizer, symbol
    from graphc import symbol as sym
    from graphc.diagnostics import GraphcError
    from graphc.driver import initializer, ndarray, random
    from graphc.driver import initializer as init
    from graphc.driver import ndarray as nd
    from graphc.driver.compile import compile
    from graphc.driver.executable import Executable
    from graphc.driver.executor import bind, simple_bind
    from graphc.driver.memory import memory
    from graphc.driver.training import training_step
    from graphc.runtime.context import Context, cpu, current_context, gpu
    from graphc.symbol import AttrScope, Group, Symbol, Variable, attribute, name, var

__version__ = "0.1.0"

# Public name -> the module that it is, or "module:attribute".
_LAZY: dict[str, str] = {
    # declaring
    "symbol": "graphc.symbol",
    "sym": "graphc.symbol",
    "Symbol": "graphc.symbol:Symbol",
    "Variable": "graphc.symbol:Variable",
    "var": "graphc.symbol:var",
    "Group": "graphc.symbol:Group",
    "AttrScope": "graphc.symbol:AttrScope",
    "attribute": "graphc.symbol:attribute",
    "name": "graphc.symbol:name",
    # compiling and executing
    "driver": "graphc.driver",
    "compile": "graphc.driver.compile:compile",
    "memory": "graphc.driver.memory:memory",
    "Executable": "graphc.driver.executable:Executable",
    "bind": "graphc.driver.executor:bind",
    "simple_bind": "graphc.driver.executor:simple_bind",
    "training_step": "graphc.driver.training:training_step",
    "ndarray": "graphc.driver.ndarray",
    "nd": "graphc.driver.ndarray",
    "random": "graphc.driver.random",
    "optimizer": "graphc.optimizer",
    "lr_scheduler": "graphc.lr_scheduler",
    "initializer": "graphc.driver.initializer",
    "init": "graphc.driver.initializer",
    # devices
    "Context": "graphc.runtime.context:Context",
    "cpu": "graphc.runtime.context:cpu",
    "gpu": "graphc.runtime.context:gpu",
    "current_context": "graphc.runtime.context:current_context",
    # errors
    "GraphcError": "graphc.diagnostics:GraphcError",
}

__all__ = [
    "AttrScope",
    "Context",
    "Executable",
    "GraphcError",
    "Group",
    "Symbol",
    "Variable",
    "__version__",
    "attribute",
    "bind",
    "compile",
    "cpu",
    "current_context",
    "driver",
    "gpu",
    "init",
    "initializer",
    "lr_scheduler",
    "memory",
    "name",
    "nd",
    "ndarray",
    "optimizer",
    "random",
    "simple_bind",
    "sym",
    "symbol",
    "training_step",
    "var",
]


def _imported(name: str) -> Any:
    """The module; importing makes no garbage, and to look for some among all that torch made takes 0.1 s."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if collecting:
            gc.enable()


def __getattr__(name: str) -> Any:
    target = _LAZY.get(name)
    if target is None:
        from graphc.diagnostics import closest

        hint = closest(name, list(_LAZY))
        raise AttributeError(f"module 'graphc' has no attribute {name!r}" + (f"; {hint}" if hint else ""))
    module_name, _, attribute = target.partition(":")
    module = _imported(module_name)
    value = getattr(module, attribute) if attribute else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
