"""What tells two graphs apart, as text that is quick to make: the key under which a compiled graph is found again."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from graphc.ir.graph import Graph, Value


def digest_text(graph: Graph) -> str:
    """A text that two graphs share exactly when they are equal, names and origins included.

    Values are numbered where they are defined, and so are types, attributes and origins, of which there are few. A
    graph that is wrong has a text too, another one than any graph that is right.
    """
    lines: list[str] = [repr(graph.name)]
    definitions: dict[str, tuple[int, Value]] = {}
    number = numbering(lines)

    def defined(value: Value) -> str:
        definitions[value.name] = len(definitions), value
        return f"{value.name!r}:{number(value.type)}"

    def used(value: Value) -> int | Value:
        found, definition = definitions.get(value.name, (0, None))
        return found if definition is value or definition == value else value

    lines += [f"{item.kind.value} {defined(item.value)}" for item in graph.inputs]
    for node in graph.nodes:
        read = list(map(used, node.inputs))
        made = [defined(value) for value in node.outputs]
        lines.append(f"{made}={node.primitive}{read}{number(node.attributes)} {number(node.origins)}")
    results = list(map(used, graph.outputs))
    updates = [(update.target, used(update.value)) for update in graph.updates]
    lines.append(f"{results} {graph.output_names} {updates}")
    return "\n".join(lines)


def numbering(lines: list[str]) -> Callable[[Hashable], int]:
    """Numbers for items that repeat; `lines` says once what each stands for."""
    known: dict[Hashable, int] = {}

    def number(item: Hashable) -> int:
        found = known.get(item)
        if found is None:
            found = known[item] = len(known)
            lines.append(f"{found} is {item!r}")
        return found

    return number
