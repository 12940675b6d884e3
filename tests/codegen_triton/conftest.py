"""One interpreter process for each test process."""

from collections.abc import Iterator

import pytest

from graphc.runtime.gpu.interpreter import Interpreter


@pytest.fixture(scope="session")
def interpreter(cache_folder: object) -> Iterator[Interpreter]:
    with Interpreter() as process:
        yield process
