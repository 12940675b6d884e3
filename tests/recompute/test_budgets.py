"""Budgets as users write them."""

import pytest

from graphc.diagnostics import GraphcError
from graphc.driver.compile import Options
from graphc.passes.recompute import Budget


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        (2_000_000_000, 2_000_000_000),
        (1, 1),
        (3e9, 3_000_000_000),
        ("2GB", 2_000_000_000),
        ("512MiB", 512 << 20),
        (" 1.5 GiB ", 3 << 29),
        ("40kb", 40_000),
        ("1_000", 1000),
        ("12,345", 12_345),
        ("7 b", 7),
        ("1TiB", 1 << 40),
        (".5MB", 500_000),
    ],
)
def test_amounts(text: str | int | float, nbytes: int) -> None:
    assert Budget.of(text) == Budget(nbytes=nbytes)


@pytest.mark.parametrize(
    ("text", "fraction"), [(0.25, 0.25), (1.0, 1.0), ("0.25", 0.25), ("25%", 0.25), ("12.5%", 0.125)]
)
def test_fractions(text: str | float, fraction: float) -> None:
    assert Budget.of(text) == Budget(fraction=fraction)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "2 Gigs",
        "GB",
        "-1GB",
        "1e9",
        "1..5GB",
        "0",
        "0GB",
        "0%",
        "150%",
        "0.1b",
        0,
        -1,
        0.0,
        -0.5,
        True,
        1e999,
        float("nan"),
    ],
)
def test_what_is_no_budget(wrong: str | int | float) -> None:
    with pytest.raises(GraphcError) as caught:
        Options(memory_budget=wrong)
    assert caught.value.diagnostic.code == "G608"
    assert repr(wrong) in caught.value.diagnostic.message


def test_a_budget_leaves_the_arena_what_is_held_besides() -> None:
    assert Budget.of("1000").arena(plain=5000, held=300) == 700
    assert Budget.of(0.25).arena(plain=5000, held=300) == 1250
