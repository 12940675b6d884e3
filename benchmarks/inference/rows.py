"""Rows of the inference suite: each network of the catalog, one example and sixteen.

The floor is the multiply-adds of products and convolutions at the peak, or the parameters, the inputs and the outputs
at the bandwidth. Winograd's and similar algorithms multiply less than the floor counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from harness.row import Array, Row
from networks.catalog import NETWORKS, Network

BATCHES = (1, 16)


def _row(network: Network, batch: int) -> Row:
    def inputs(generator: np.random.Generator) -> Mapping[str, Array]:
        return network.inputs(generator, batch)

    return Row(
        "inference",
        f"{network.key}_{batch}",
        f"{network.name}, batch {batch}",
        inputs,
        nbytes=4 * (network.parameters + batch * network.outputs),
        flops=2 * batch * network.multiply_adds,
        options={"network": network.key, "batch": batch},
    )


ROWS: tuple[Row, ...] = tuple(_row(network, batch) for network in NETWORKS for batch in BATCHES)
