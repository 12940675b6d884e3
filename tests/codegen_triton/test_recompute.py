"""Generated Triton for a training step whose kernels run again: the same bits, in the interpreter."""

import torch

from graphc.driver.compile import Options, lower
from graphc.passes.fusion import FusionOptions
from graphc.passes.fusion.bind import Binder
from graphc.passes.fusion.fuse import fuse_again
from graphc.passes.recompute.arrange import arrange
from graphc.runtime.gpu.interpreter import Interpreter
from support.deep_networks import chain, values
from support.triton_programs import run_graphs


def test_a_step_that_drops_everything(interpreter: Interpreter) -> None:
    step = chain(3, 8, 8, "relu", dropout=0.3, normalized=True)
    graph = lower(step, Options(constants=False), "gpu").optimized
    plain, (repeater, *_) = fuse_again(graph, FusionOptions(), {})
    schedule = repeater.schedule()
    made = arrange(schedule, schedule.turn, set())
    storage, sequence = repeater.arranged(made)
    again = Binder(repeater.part, storage, repeater.options).program(sequence)
    assert made.repeated >= 2
    given = values(graph)
    expected, got = run_graphs([plain, again], [given, given], {}, interpreter.run)
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name
        assert not value.isnan().any()
