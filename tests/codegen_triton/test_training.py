"""A whole training step through the driver, with Triton's kernels interpreted in the planned arena."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "support" / "interpreted_training.py"


def test_lenet_learns_what_the_reference_learns() -> None:
    """Two steps with dropout, batch statistics and momentum, from equal random bits."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, SCRIPT, "reference"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    difference = json.loads(done.stdout)
    assert difference["outputs"] < 1e-5
    assert difference["states"]["random_state"] == 0
    assert len(difference["states"]) > 20
    assert max(difference["states"].values()) < 1e-5
