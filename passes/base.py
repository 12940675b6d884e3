"""What a pass is: a frozen dataclass of options, callable from Graph to Graph."""

from __future__ import annotations

from typing import ClassVar, Protocol

from graphc.ir.graph import Graph, Node


class Pass(Protocol):
    """A pure function on graphs; its fields are its options.

    It returns the same object when it changed nothing, and applying it twice is applying it once. `needs` names
    passes that must have run before it in a pipeline.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]

    def __call__(self, graph: Graph) -> Graph: ...


class NodeError(Exception):
    """A defect met while a pass worked on `node`; the cause is chained. The manager turns it into a diagnostic."""

    def __init__(self, node: Node) -> None:
        super().__init__(str(node))
        self.node = node
