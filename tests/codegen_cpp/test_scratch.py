"""Scratch of threads: shares of one planned buffer, and memory of one's own where there is none."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from graphc.codegen.cpp.scratch import TILE_BYTES, Scratch, scratch_of
from graphc.codegen.cpp.target import detect
from graphc.types import dimension
from support import cpp_cases as c
from support.native import FLAGS, HEADERS, compiler
from support.native_programs import Native, joined


def test_python_and_the_template_agree_on_the_workspace(tmp_path: Path) -> None:
    source = tmp_path / "size.cpp"
    source.write_text(
        '#include <stdio.h>\n#include "tile.h"\nint main() { printf("%lld", (long long)gc_workspace_bytes); }'
    )
    program = tmp_path / "size"
    flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC", "-Werror")]
    command = [compiler(), *flags, "-march=native", f"-I{HEADERS}", str(source), "-o", str(program)]
    subprocess.run(command, check=True)
    said = int(subprocess.run([program], capture_output=True, text=True, check=True).stdout)
    assert said <= TILE_BYTES < said + 8192


def test_a_share_holds_the_largest_request() -> None:
    assert not scratch_of([], ["lanes.h"])
    assert scratch_of([100, 1000, 100], ["lanes.h"]) == Scratch(1024, 0)
    assert scratch_of([], ["gemm.h", "conv.h"]) == Scratch(0, TILE_BYTES)
    n = dimension("N")
    assert scratch_of([n * 4, 1000], []) == Scratch(dimension(n * 4 + 1000 + 128), 0)


def test_threads_at_once_and_teams_larger_than_planned() -> None:
    kind = c.convolution("_weight_gradient", 8, 4, 6, (40, 40), (3, 3), 1, 1, 1, 1, name="filter")
    image = c.convolution("", 8, 16, 24, (40, 40), (3, 3), 1, 1, 1, 1, name="image")
    program = joined([kind.kernel, image.kernel])
    native, narrow = (Native(program, replace(detect(), cores=cores)) for cores in (2, 1))
    inputs = native.inputs()
    expected = native.run(inputs)
    results = [name for name in expected if name.endswith(".y")]
    assert "{(char*)scratch, 0, " in native.source and native.source != narrow.source

    def once(number: int) -> bool:
        found = (native if number % 2 else narrow).run(inputs)
        return all(np.array_equal(found[name], expected[name]) for name in results)

    with ThreadPoolExecutor(6) as pool:
        assert len(results) == 2 and all(pool.map(once, range(48)))
