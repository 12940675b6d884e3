"""`--memory-budget` on the command line."""

from collections.abc import Callable
from typing import Any

import pytest

Command = Callable[..., Any]
STEP = ("net.py", "--optimizer", "sgd")


def test_a_budget_that_is_large_enough_changes_nothing(graphc: Command) -> None:
    plain = graphc("dump", *STEP, "--stage", "plan", "--json").json
    assert graphc("dump", *STEP, "--stage", "plan", "--json", "--memory-budget", "1GB").json == plain
    assert plain["recompute"] is None


@pytest.mark.parametrize(("budget", "code"), [("1B", "G609"), ("2 Gigs", "G608"), ("0.0001", "G609")])
def test_what_cannot_be_met_or_read(graphc: Command, budget: str, code: str) -> None:
    result = graphc("dump", *STEP, "--stage", "plan", "--memory-budget", budget)
    assert result.code == 1 and code in result.err and result.out == ""


def test_stages_before_fusion_have_no_memory(graphc: Command) -> None:
    result = graphc("dump", *STEP, "--stage", "graph", "--memory-budget", "1GB")
    assert result.code == 2 and "--memory-budget" in result.err
