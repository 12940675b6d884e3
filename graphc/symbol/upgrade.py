"""Model files of older versions, brought to today's form before they are read.

- up to 0.8 a node has `param` (the operator's parameters) and `attr` (the user's attributes), inputs are pairs, and
  auxiliary states are not written;
- 0.9 to 0.11 have one `attr`, from 0.12 on its key is `attrs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphc.operators.declare import Operator
from graphc.symbol.attribute import HIDDEN_KEYS

Find = Callable[[str, Mapping[str, Any]], Operator]

FLOOR_POOLING = 10000
"""The version from which a Pooling without a convention rounds down."""


def upgrade(document: dict[str, Any], find: Find) -> None:
    """Change a document in place: one `attrs` a node, all auxiliary states present, attributes under today's keys."""
    version = _version(document)
    records: list[dict[str, Any]] = document["nodes"]
    for record in records:
        merged: dict[str, Any] = {}
        for key in ("attr", "param", "attrs"):
            merged |= record.pop(key, None) or {}
        record["attrs"] = merged
    before_nine = version is None
    for record in list(records):
        if record["op"] == "null":
            record["attrs"] = {_stored(key): value for key, value in record["attrs"].items()}
            continue
        declared = find(record["op"], record)
        if before_nine and declared.name == "Pooling":
            record["attrs"].setdefault("pooling_convention", "full")
        _move_hidden_attributes(record, records, declared)
        _add_auxiliaries(record, records, declared)


def _version(document: Mapping[str, Any]) -> int | None:
    """The version that wrote the file; None before 0.9, which wrote none."""
    attributes = document.get("attrs")
    entry = attributes.get("mxnet_version") if isinstance(attributes, dict) else None
    if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], int):
        return entry[1]
    return None


def _stored(key: str) -> str:
    return f"__{key}__" if key in HIDDEN_KEYS else key


def _move_hidden_attributes(
    record: dict[str, Any], records: list[dict[str, Any]], declared: Operator
) -> None:
    """lr_mult and its like become __lr_mult__; weight_lr_mult goes to the variable that is the weight."""
    moved: dict[str, Any] = {}
    inputs = _input_names(record, declared)
    for key, value in record["attrs"].items():
        argument, _, hidden = next(
            (
                (key.removesuffix(f"_{known}"), "_", known)
                for known in HIDDEN_KEYS
                if key.endswith(f"_{known}")
            ),
            ("", "", ""),
        )
        if hidden and argument in inputs and inputs.index(argument) < len(record["inputs"]):
            link = record["inputs"][inputs.index(argument)]
            source = records[link[0]] if isinstance(link, list) and 0 <= link[0] < len(records) else record
            if source["op"] == "null":
                source["attrs"].setdefault(f"__{hidden}__", value)
                continue
        moved[_stored(key)] = value
    record["attrs"] = moved


def _input_names(record: Mapping[str, Any], declared: Operator) -> tuple[str, ...]:
    given = {key: value for key, value in record["attrs"].items() if declared.parameter(key) is not None}
    if declared.counted:
        given.setdefault(declared.counted, str(len(record["inputs"])))
    return declared.input_names(declared.read_parameters(given, record["name"])[0])


def _add_auxiliaries(record: dict[str, Any], records: list[dict[str, Any]], declared: Operator) -> None:
    """Auxiliary states that an old file leaves out become variables <node>_<state>."""
    names = _input_names(record, declared)
    missing = names[len(record["inputs"]) :]
    if missing and missing == declared.auxiliaries[-len(missing) :]:
        for name in missing:
            record["inputs"].append([len(records), 0, 0])
            records.append({"op": "null", "name": f"{record['name']}_{name}", "attrs": {}, "inputs": []})
