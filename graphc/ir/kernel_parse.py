"""Reads the text of a kernel: one cursor, one method a rule of the grammar in ir/kernel.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from graphc.ir.graph import NO_ATTRIBUTES, Origins
from graphc.ir.kernel import (
    Access,
    Affine,
    Anchor,
    AnchorOperation,
    Axis,
    Compute,
    Constant,
    Definition,
    Guard,
    IndexValue,
    Kernel,
    Literal,
    Load,
    Nest,
    Parameter,
    Random,
    Reduce,
    Reduction,
    Statement,
    Store,
    View,
)
from graphc.ir.parse import DTYPES, NAME, Cursor, with_files
from graphc.types import Dim, DType, TensorType, parse_dim

_NUMBER = re.compile(r"-?(?:inf|nan|\d+(?:\.\d*)?(?:e[+-]?\d+)?)|true|false")
_INTEGER = re.compile(r"-?\d+")
_BLANK = re.compile(r"[ \t]*")
_WORD = re.compile(r"[A-Za-z_]\w*")


def parse_kernel(text: str) -> Kernel:
    """The kernel of a text; error G310 with the line and what was expected there.

    Only the form is read: `ir.kernel_verify.verify_kernel` checks what the kernel means.
    """
    return _KernelParser(text).kernel()


class _KernelParser(Cursor):
    def kernel(self) -> Kernel:
        self.expect("kernel")
        name = self.name("the kernel's name")
        self.expect("(")
        origins = self.origins()
        parameters = self.items(self.parameter)
        braced = self.text.startswith("{", self.skip_space())
        attributes = self.attributes() if braced and self.is_attributes() else NO_ATTRIBUTES
        anchor = self.anchor() if self.accept("anchor") else None
        self.expect("{")
        anchor_origins = self.origins()
        if anchor is not None and anchor.results:
            anchor = replace(anchor, views=self.views())
        nests = []
        while not self.accept("}"):
            nests.append(self.nest())
        files = self.files()
        if self.skip_space() != len(self.text):
            raise self.error("the end of the text")
        if anchor is not None:
            anchor = replace(anchor, origins=with_files(anchor_origins, files))
        return Kernel(
            name,
            tuple(parameters),
            tuple(_nest_with_files(nest, files) for nest in nests),
            anchor,
            with_files(origins, files),
            attributes,
        )

    def here(self, literal: str) -> bool:
        """Read a literal if it comes next on the line, so that a comment behind the statement stays unread."""
        match = _BLANK.match(self.text, self.position)
        assert match is not None
        if not self.text.startswith(literal, match.end()):
            return False
        self.position = match.end() + len(literal)
        return True

    def is_attributes(self) -> bool:
        """True when the brace that comes next opens attributes, not the body."""
        return re.compile(r"\{\s*[\w\"][^\n{}]*=").match(self.text, self.position) is not None

    def parameter(self) -> Parameter:
        access = next((a for a in (Access.INOUT, Access.IN, Access.OUT) if self.accept(a.value)), None)
        if access is None:
            raise self.error("in, out or inout")
        name = self.name("a parameter's name")
        self.expect(":")
        return Parameter(name, self.type(), access)

    def anchor(self) -> AnchorOperation:
        primitive = self.token(NAME, "a primitive")
        self.expect("(")
        operands = self.items(lambda: self.name("an operand"))
        attributes = self.attributes()
        self.expect("->")
        start = self.skip_space()
        match = re.compile(r"[^\]]*\]").match(self.text, start)
        if match is None:
            raise self.error("the result's type")
        self.position = match.end()
        result = TensorType.parse(match.group())
        self.expect("in")
        dtype, results = self.dtype(), list[str]()
        if self.accept("into"):
            self.expect("(")
            results = self.items(lambda: self.name("a result, or _"))
        written = tuple("" if name == "_" else name for name in results)
        return AnchorOperation(primitive, tuple(operands), attributes, result, dtype, results=written)

    def views(self) -> tuple[View | None, ...]:
        found: list[View | None] = []
        while self.accept("view"):
            if not self.accept("("):
                found.append(None)
                continue
            axes = self.items(self.axis)
            self.expect("=")
            self.expect("[")
            found.append(View(tuple(axes), tuple(self.items(self.affine, "]"))))
        return tuple(found)

    def nest(self) -> Nest:
        self.expect("nest")
        self.expect("(")
        axes = self.items(self.axis)
        self.expect("{")
        body = []
        while not self.accept("}"):
            body.append(self.statement())
        return Nest(tuple(axes), tuple(body))

    def axis(self) -> Axis:
        name = self.token(_WORD, "an axis")
        self.expect(":")
        start = self.skip_space()
        text = self.until(",)")
        reduction = text.endswith(" reduce")
        return Axis(name, self.parsed_dim(text.removesuffix(" reduce"), start), reduction)

    def statement(self) -> Statement:
        found: Statement = self.store() if self.accept("store") else self.definition()
        return replace(found, origins=self.origins())

    def store(self) -> Store:
        buffer, index = self.place()
        self.expect("=")
        value = self.token(_WORD, "a scalar")
        return Store(buffer, index, value, self.guards())

    def place(self) -> tuple[str, tuple[Affine, ...]]:
        buffer = self.name("a buffer")
        self.expect("[")
        return buffer, tuple(self.items(self.affine, "]"))

    def definition(self) -> Definition:
        name = self.token(_WORD, "a statement")
        self.expect(":")
        dtype = self.dtype()
        self.expect("=")
        word = self.token(_WORD, "a statement's right side")
        match word:
            case "load":
                buffer, index = self.place()
                guards = self.guards()
                other = self.number() if self.here("else ") else _zero(dtype)
                return Load(name, dtype, buffer, index, guards, other)
            case "constant":
                return Constant(name, dtype, self.number())
            case "index":
                return IndexValue(name, dtype, self.affine())
            case "random":
                return self.random(name, dtype)
            case "reduce":
                operation = self.reduction()
                return Reduce(name, dtype, operation, self.token(_WORD, "a scalar"))
            case "anchor":
                return Anchor(name, dtype)
        self.expect("(")
        arguments = self.items(lambda: self.token(_WORD, "a scalar"))
        return Compute(name, dtype, word, tuple(arguments))

    def reduction(self) -> Reduction:
        start = self.skip_space()
        text = self.token(_WORD, "a reduction")
        found = next((operation for operation in Reduction if operation.value == text), None)
        if found is None:
            raise self.error(f"one of {', '.join(operation.value for operation in Reduction)}", start)
        return found

    def random(self, name: str, dtype: DType) -> Random:
        self.expect("(")
        buffer = self.name("a buffer")
        self.expect(",")
        stream = int(self.token(_INTEGER, "a stream's number"))
        self.expect(",")
        index = self.affine()
        self.expect(")")
        return Random(name, dtype, buffer, stream, index)

    def guards(self) -> tuple[Guard, ...]:
        result = []
        while self.here("if "):
            low = self.dim()
            self.expect("<=")
            expression = self.affine()
            self.expect("<")
            result.append(Guard(expression, low, self.dim()))
        return tuple(result)

    def affine(self) -> Affine:
        offset: Dim = 0
        terms: list[tuple[str, Dim]] = []
        while True:
            if re.compile(r"[A-Za-z_]").match(self.text, self.skip_space()):
                terms.append((self.token(_WORD, "a variable"), 1))
            else:
                number = self.dim()
                if self.here("*"):
                    terms.append((self.token(_WORD, "a variable"), number))
                else:
                    offset = number
            if not self.here("+"):
                return Affine(offset, tuple(terms))

    def dim(self) -> Dim:
        """An integer, or a dimension in parentheses."""
        if not self.text.startswith("(", self.skip_space()):
            return int(self.token(_INTEGER, "an integer or a dimension in parentheses"))
        start = self.position
        self.position += 1
        text = self.until(")")
        self.expect(")")
        return self.parsed_dim(text, start)

    def parsed_dim(self, text: str, start: int) -> Dim:
        try:
            return parse_dim(text)
        except ValueError:
            raise self.error("a dimension", start) from None

    def number(self) -> Literal:
        text = self.token(_NUMBER, "a number, true or false")
        if text in ("true", "false"):
            return text == "true"
        return int(text) if _INTEGER.fullmatch(text) else float(text)

    def dtype(self) -> DType:
        text = self.token(_WORD, "an element type")
        if text not in DTYPES:
            raise self.error("an element type")
        return DTYPES[text]


def _zero(dtype: DType) -> Literal:
    if dtype.is_float:
        return 0.0
    return False if dtype is DType.BOOL else 0


def _nest_with_files(nest: Nest, files: Mapping[str, str]) -> Nest:
    def full(origins: Origins) -> Origins:
        return with_files(origins, files)

    return replace(nest, body=tuple(replace(s, origins=full(s.origins)) for s in nest.body))
