"""GCC turns the loops around the templates' functions into vector instructions, as its own report says."""

import re
import subprocess

import pytest

from support.native import DRIVERS, compiler, targets, vectorized_loops


@pytest.fixture(autouse=True)
def needs_gcc_for_x86() -> None:
    version = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    if "Free Software Foundation" not in version or len(targets()) == 1:
        pytest.skip("only GCC for x86-64 has libmvec, and reports its loops this way")


def test_every_function_but_gamma_and_the_exact_remainder_vectorizes() -> None:
    text = (DRIVERS / "vector_math.cpp").read_text()
    called = {
        f"{number}:{found.start() + 1}": found[2]
        for number, line in enumerate(text.splitlines(), 1)
        for found in re.finditer(r"\b(UNARY|BINARY)\((\w+)\)", line)
        if not line.startswith("#")
    }
    assert len(called) > 40
    scalar = {called[place] for place in called.keys() - vectorized_loops("vector_math")}
    assert scalar == {"lgamma", "tgamma", "mod"}


def test_conversions_and_philox_vectorize() -> None:
    text = (DRIVERS / "storage.cpp").read_text()
    assert len(vectorized_loops("storage")) == text.count("#pragma omp simd") == 5
