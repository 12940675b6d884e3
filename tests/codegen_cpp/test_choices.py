"""Choices pin what cost models would choose: read, written, followed; every alternative computes the same."""

from dataclasses import replace

import pytest

from graphc.codegen.cpp import Choices, apply_choices, detect, generate
from graphc.codegen.cpp.choices import NO_CHOICES, alternatives, kernel_key, pin
from graphc.diagnostics import GraphcError
from support import cpp_cases as c
from support.native_programs import Case, Native, check, joined

CASES = [
    c.gelu_residual(301, 1008, "gelu"),
    c.softmax(210, 1003, "softmax"),
    c.layer_norm(96, 1024, "norm"),
    c.column_statistics(700, 1300, "columns"),
    c.row_statistics(170, 2100, "rows"),
    c.batch_norm(9, 16, 900, "bn"),
    c.channel_softmax(20, 19, 700, "channels"),
    c.transpose_scale(213, 401, "transpose"),
    c.max_pool(90, 30, 31, 3, 2, 1, "pool"),
    c.total((300, 1100), "total"),
    c.convolution("", 2, 24, 40, (18, 22), (3, 3), 1, 1, 1, 1, name="image"),
    c.convolution("_data_gradient", 2, 24, 40, (18, 22), (3, 3), 1, 1, 1, 1, name="data"),
    c.convolution("_weight_gradient", 2, 24, 40, (18, 22), (3, 3), 1, 1, 1, 1, name="weight"),
]


def test_every_alternative_computes_the_same() -> None:
    cases = []
    for case in CASES:
        # Past the cache goes what is larger than it: a CPU with a small one, so that these are large.
        for number, chosen in enumerate(alternatives(case.kernel, replace(detect(), llc=1 << 16))):
            kernel = replace(pin(case.kernel, chosen), name=f"{case.kernel.name}_{number}")
            cases.append(Case(kernel, case.expected, case.tolerance))
    assert len(cases) > 2 * len(CASES)
    check(Native(joined([case.kernel for case in cases])), cases)


def test_a_file_reads_as_it_was_written() -> None:
    kernels = [case.kernel for case in CASES]
    choices = NO_CHOICES.with_choice(kernels[1], {"tile": 256, "streams": 1}, "softmax: 1.0 ms")
    choices = choices.with_choice(kernels[3], {}, "columns: 2.0 ms")
    choices = choices.with_choice(kernels[10], {"algorithm": "direct"}, "")
    text = str(choices)
    assert text.startswith("# graphc choices 1\n") and " default    # columns: 2.0 ms\n" in text
    again = Choices.parse(text)
    assert str(again) == text and again.of(kernels[1]) == {"tile": 256, "streams": 1}
    assert again.of(kernels[0]) == {} and Choices.parse("") == NO_CHOICES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", "does not begin with"),
        ("# graphc choices 1\nsoftmax tile=64\n", "names no kernel"),
        ("# graphc choices 1\n0123456789abcdef\n", "names no kernel"),
        ("# graphc choices 1\n0123456789abcdef tiles=64\n", "did you mean 'tile'"),
        ("# graphc choices 1\n0123456789abcdef tile=65\n", "tile cannot be '65'"),
        ("# graphc choices 1\n0123456789abcdef block=0\n", "block cannot be '0'"),
        ("# graphc choices 1\n0123456789abcdef streams=yes\n", "streams cannot be 'yes'"),
        ("# graphc choices 1\n" + 2 * "0123456789abcdef tile=64\n", "is named twice"),
    ],
)
def test_what_is_no_choice_is_an_error(text: str, message: str) -> None:
    with pytest.raises(GraphcError, match=message) as raised:
        Choices.parse(text, "net.choices")
    assert raised.value.diagnostic.code == "G507"


def test_choices_name_structures_not_names() -> None:
    one, other = c.softmax(210, 1003, "softmax").kernel, c.softmax(210, 1003, "attention").kernel
    assert kernel_key(one) == kernel_key(other) != kernel_key(c.softmax(210, 1004, "softmax").kernel)


def test_the_same_file_gives_the_same_sources() -> None:
    program = joined([case.kernel for case in CASES])
    columns = CASES[3].kernel
    choices = NO_CHOICES.with_choice(columns, {"block": 256}, "")
    plain, chosen = generate(program), generate(apply_choices(program, choices))
    assert plain.files != chosen.files
    assert chosen.files == generate(apply_choices(program, Choices.parse(str(choices)))).files
    assert apply_choices(program, NO_CHOICES) is program
