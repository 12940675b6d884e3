"""Reads the text of a graph: one cursor, one method a rule of the grammar in ir/graph.py."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from graphc.diagnostics import GraphcError, Location, fail
from graphc.ir.graph import Attributes, Graph, Input, InputKind, Node, Origin, Origins, Update, Value
from graphc.types import DType, TensorType, parse_dim

T = TypeVar("T")

LITERALS = {"true": True, "false": False, "none": None}
DTYPES = {dtype.value: dtype for dtype in DType}
NAME = re.compile(r"[A-Za-z_][\w.]*")
WORD = re.compile(r'[^\s;":]+')

_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_SPACE = re.compile(r"(?:\s|//[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_INTEGER = re.compile(r"-?\d+")
_FLOAT = re.compile(r"-?(?:\d+\.\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+|inf|nan)")
_PART = rf"({_STRING.pattern}|{WORD.pattern})"
_ORIGIN = re.compile(rf"[ \t]*(?:{_PART}:(-?\d+)[ \t]+)?{_PART}[ \t]+{_PART}[ \t]*(?:;|(?=\n|\Z))")


def parse_graph(text: str) -> Graph:
    """The graph of a text; error G310 with the line and what was expected there.

    Only the form is read: `primitives.verify.verify_graph` checks what the graph means.
    """
    return _GraphParser(text).graph()


class Cursor:
    """A position in a text; comments count as space."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def error(self, expected: str, at: int | None = None) -> GraphcError:
        """The error to raise at a position, the current one by default."""
        position = self.position if at is None else at
        start = self.text.rfind("\n", 0, position) + 1
        line = self.text[start:].split("\n", 1)[0].rstrip()
        number = self.text.count("\n", 0, start) + 1
        marker = " " * (position - start) + "^"
        return fail("G310", f"line {number}: expected {expected}\n    {line}\n    {marker}")

    def skip_space(self) -> int:
        """Move to the next token and return its position."""
        match = _SPACE.match(self.text, self.position)
        assert match is not None
        self.position = match.end()
        return self.position

    def accept(self, literal: str) -> bool:
        """Read a keyword or punctuation if it comes next."""
        end = self.skip_space() + len(literal)
        if not self.text.startswith(literal, self.position):
            return False
        if literal.isalpha() and re.match(r"\w", self.text[end : end + 1]):
            return False
        self.position = end
        return True

    def expect(self, literal: str) -> None:
        if not self.accept(literal):
            raise self.error(repr(literal))

    def token(self, pattern: re.Pattern[str], expected: str) -> str:
        match = pattern.match(self.text, self.skip_space())
        if match is None:
            raise self.error(expected)
        self.position = match.end()
        return match.group()

    def string(self) -> str:
        start = self.skip_space()
        token = self.token(_STRING, "a quoted string")
        try:
            return unquote(token)
        except ValueError:
            raise self.error("a quoted string", start) from None

    def name(self, expected: str) -> str:
        quoted = self.text.startswith('"', self.skip_space())
        return self.string() if quoted else self.token(NAME, expected)

    def items(self, item: Callable[[], T], close: str = ")") -> list[T]:
        """Items up to the closing bracket, with commas between them and perhaps after the last."""
        result: list[T] = []
        while not self.accept(close):
            result.append(item())
            if not self.accept(","):
                self.expect(close)
                break
        return result

    def until(self, stops: str) -> str:
        """Text up to a line's end or one of the stops outside brackets."""
        depth, start = 0, self.skip_space()
        while self.position < len(self.text):
            character = self.text[self.position]
            quoted = _STRING.match(self.text, self.position) if character == '"' else None
            if quoted is not None:
                self.position = quoted.end()
                continue
            depth += (character in "([") - (character in ")]")
            if depth < 0 or character == "\n" or (depth == 0 and character in stops):
                break
            self.position += 1
        return self.text[start : self.position].strip()

    def type(self) -> TensorType:
        start = self.skip_space()
        text = self.until(",=")
        try:
            return TensorType.parse(text)
        except (ValueError, TypeError) as problem:
            raise self.error(f"a type such as f32[N,784] ({problem})", start) from None

    def attributes(self) -> Attributes:
        """The attributes in braces; none when no brace comes next on the line."""
        match = _BLANK.match(self.text, self.position)
        if match is None or not self.text.startswith("{", match.end()):
            return Attributes()
        self.expect("{")
        return Attributes(self.items(self.attribute, "}"))

    def attribute(self) -> tuple[str, Any]:
        name = self.name("an attribute's name")
        self.expect("=")
        return name, self.literal()

    def literal(self) -> Any:
        """An attribute's value."""
        start = self.skip_space()
        if self.text.startswith('"', start):
            return self.string()
        text = self.until(",}")
        if not _is_tuple(text):
            try:
                return _scalar(text)
            except ValueError:
                raise self.error("a number, a string, a dimension, a dtype or a tuple", start) from None
        self.position = start
        self.expect("(")
        return tuple(self.items(self.literal))

    def origins(self) -> tuple[Origin, ...]:
        """The origins at the end of a node's line; files by their short names."""
        blank = _BLANK.match(self.text, self.position)
        assert blank is not None
        if not self.text.startswith("//", blank.end()):
            return ()
        self.position = blank.end() + 2
        result = []
        while True:
            match = _ORIGIN.match(self.text, self.position)
            if match is None:
                raise self.error("origins: file:line operator name; ...")
            file, line, operator, name = match.groups()
            location = Location(unquote(file), int(line)) if line else None
            result.append(Origin(unquote(name), unquote(operator), location))
            self.position = match.end()
            if not match.group().endswith(";"):
                return tuple(result)

    def files(self) -> dict[str, str]:
        """The table from short names to full paths."""
        if not self.accept("files"):
            return {}
        self.expect("{")
        result = {}
        while not self.accept("}"):
            key = unquote(self.token(re.compile(_PART), "a file's short name"))
            self.expect("=")
            result[key] = self.string()
        return result


def unquote(token: str) -> str:
    """The text of a quoted string, or of a bare word."""
    return str(json.loads(token)) if token.startswith('"') else token


def _is_tuple(text: str) -> bool:
    """Whether a text in parentheses is a tuple, as () (1,) (1,2) are, and not an expression such as (N+1)*2."""
    if not text.startswith("("):
        return False
    depth, commas, plain = 0, 0, _STRING.sub("s", text)
    for position, character in enumerate(plain):
        depth += (character == "(") - (character == ")")
        commas += character == "," and depth == 1
        if depth == 0:
            return position == len(plain) - 1 and (commas > 0 or plain[1:-1].strip() == "")
    return True


def _scalar(text: str) -> Any:
    if text in LITERALS:
        return LITERALS[text]
    if text in DTYPES:
        return DTYPES[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return parse_dim(text)


class _GraphParser(Cursor):
    """Uses of values and files come before their definitions (outputs, the file table), so both resolve at the end."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values: dict[str, Value] = {}

    def graph(self) -> Graph:
        self.expect("graph")
        name = self.name("the graph's name")
        self.expect("(")
        inputs = self.items(self.input)
        self.expect("->")
        self.expect("(")
        outputs = self.items(self.output)
        updates = []
        if self.accept("update"):
            self.expect("(")
            updates = self.items(self.update)
        self.expect("{")
        nodes = []
        while not self.accept("}"):
            nodes.append(self.node())
        files = self.files()
        if self.skip_space() != len(self.text):
            raise self.error("the end of the text")
        return Graph(
            name,
            tuple(inputs),
            tuple(_with_files(node, files) for node in nodes),
            tuple(self.resolve(value, at) for _, value, at in outputs),
            tuple(Update(target, self.resolve(value, at)) for target, value, at in updates),
            tuple(label for label, _, _ in outputs),
        )

    def input(self) -> Input:
        kinds = (InputKind.PARAMETER, InputKind.STATE, InputKind.CONSTANT)
        kind = next((kind for kind in kinds if self.accept(kind.value)), InputKind.DATA)
        return Input(self.definition(), kind)

    def value_name(self) -> tuple[str, int]:
        at = self.skip_space()
        self.expect("%")
        return self.name("a value's name"), at

    def definition(self) -> Value:
        name, _ = self.value_name()
        self.expect(":")
        value = Value(name, self.type())
        self.values[name] = value
        return value

    def output(self) -> tuple[str, str, int]:
        """Name for callers, value, position."""
        if self.text.startswith("%", self.skip_space()):
            name, at = self.value_name()
            return name, name, at
        label = self.name("an output")
        self.expect("=")
        return label, *self.value_name()

    def update(self) -> tuple[str, str, int]:
        """Target, value, position."""
        target, _ = self.value_name()
        self.expect("=")
        return target, *self.value_name()

    def resolve(self, name: str, at: int) -> Value:
        if name not in self.values:
            raise self.error(f"a value that is defined, not %{name}", at)
        return self.values[name]

    def node(self) -> Node:
        if not self.text.startswith("%", self.skip_space()):
            raise self.error("a node or '}'")
        outputs = [self.definition()]
        while self.accept(","):
            outputs.append(self.definition())
        self.expect("=")
        primitive = self.token(NAME, "a primitive")
        self.expect("(")
        inputs = self.items(lambda: self.resolve(*self.value_name()))
        attributes = self.attributes()
        return Node(primitive, tuple(inputs), tuple(outputs), attributes, self.origins())


def _with_files(node: Node, files: dict[str, str]) -> Node:
    origins = with_files(node.origins, files)
    return Node(node.primitive, node.inputs, node.outputs, node.attributes, origins) if files else node


def with_files(origins: Origins, files: Mapping[str, str]) -> Origins:
    """Origins with full paths for the short names of files."""
    result = []
    for origin in origins:
        place = origin.location
        full = place and Location(files.get(place.file, place.file), place.line)
        result.append(Origin(origin.name, origin.operator, full))
    return tuple(result)
