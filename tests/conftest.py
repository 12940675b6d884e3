"""Options and fixtures for all tests: golden texts, a cache folder of their own, the GPU marker."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several test processes share the cores, so each computes on one thread. Set before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Every compilation in a test verifies the graph between passes.
os.environ.setdefault("GRAPHC_DEBUG", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from support.golden import compare_with_golden

GOLDEN = Path(__file__).parent / "golden"

# The same examples in every run; compiling a kernel may take longer than any deadline.
hypothesis.settings.register_profile(
    "graphc", deadline=None, derandomize=True, database=None, print_blob=True
)
hypothesis.settings.load_profile("graphc")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden/ anew from what was made"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not needs_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needs_gpu:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU, and torch sees none"))


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Points graphc at a cache that starts empty; the processes of one run share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "graphc-cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHC_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("passes/cse.txt", text)` fails with a diff unless tests/golden/passes/cse.txt holds `text`."""
    update = bool(request.config.getoption("--update-golden"))

    def check(path: str, text: str) -> None:
        difference = compare_with_golden(GOLDEN / path, text, update=update)
        if difference:
            pytest.fail(difference, pytrace=False)

    return check


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A compile cache of the test's own, nothing in it."""
    from graphc.runtime import cache

    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    cache._writable.cache_clear()
    yield tmp_path / "cache"
    cache._writable.cache_clear()
