"""The networks as graphc users write them: examples/zoo, at the sizes of the tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import graphc as mx

_ZOO = str(Path(__file__).parents[2] / "examples" / "zoo")
if _ZOO not in sys.path:
    sys.path.insert(0, _ZOO)

import alexnet  # noqa: E402
import bert  # noqa: E402
import gpt2  # noqa: E402
import inception_bn  # noqa: E402
import lstm_lm  # noqa: E402
import resnet  # noqa: E402
import vgg  # noqa: E402

SYMBOLS: Mapping[str, Callable[[], mx.Symbol]] = {
    "alexnet": alexnet.network,
    "vgg16": lambda: vgg.network(layers=16),
    "inception_bn": inception_bn.network,
    "resnet50": resnet.network,
    "bert": bert.network,
    "gpt2": gpt2.logits,
    "lstm": lambda: mx.sym.Group(list(lstm_lm.logits())),
}
