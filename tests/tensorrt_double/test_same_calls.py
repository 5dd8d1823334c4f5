"""The same calls on the double and on NVIDIA's own builder: what they return, raise and say is wrong is the same."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.conftest import needs_rtx

from . import calls
from .module import pretended
from .settings import Settings
from .small import FP16, FP32, INT64, Workshop, doubling, network, same

pytestmark = [
    needs_rtx,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
NO_GPU = ("cudaError 35", "Thread context has not been set")  # in lines that the real one logs for want of a GPU
VECTOR = {"x": (FP16, (4,))}


def culprit(operator: str, *inputs: str, **attributes):
    return helper.make_node(operator, inputs, ["y"], name="culprit", **attributes)


MASKED = network(
    [helper.make_node("Concat", ["a", "b"], ["c"], name="both", axis=0), culprit("Add", "c", "mask")],
    {"a": (FP32, ("past",)), "b": (FP32, ("sequence",)), "mask": (FP32, ("columns",))},
    {"y": (FP32, ("columns",))},
)
NAMED = network([culprit("Mul", "a", "b")], {name: (FP32, ("n",)) for name in "ab"}, {"y": (FP32, ("n",))})
SHAPED = network([culprit("Reshape", "x", "s")], VECTOR | {"s": (INT64, (2,))}, {"y": (FP16, (2, 2))})
ROWS = {"a": same(5), "b": same(3), "mask": same(8)}
CALLS: dict[str, calls.Calls] = {
    "a profile that fits": calls.with_profiles({"x": same(2, 4)}),
    "two profiles": calls.with_profiles({"x": same(2, 4)}, {"x": ((1, 4), (2, 4), (8, 4))}),
    "no profile": calls.with_profiles(),
    "a profile without the input": calls.with_profiles({}),
    "a fixed size that differs": calls.with_profiles({"x": same(2, 5)}),
    "another rank": calls.with_profiles({"x": same(2)}),
    "lengths from zero on": calls.with_profiles({"x": ((0, 4), (1, 4), (2, 4))}),
    "a length of zero": calls.with_profiles({"x": same(0, 4)}),
    "no such input": calls.with_profiles({"x": same(2, 4), "z": same(2)}),
    "sizes out of order": calls.with_profiles({"x": ((2, 4), (1, 4), (3, 4))}),
    "sizes that agree inside": calls.with_profiles(ROWS, model=MASKED),
    "sizes that disagree inside": calls.with_profiles(ROWS | {"mask": same(7)}, model=MASKED),
    "sizes that are broadcast": calls.with_profiles(ROWS | {"mask": same(1)}, model=MASKED),
    "one name, one size": calls.with_profiles({"a": same(4), "b": same(4)}, model=NAMED),
    "one name, two sizes": calls.with_profiles({"a": same(4), "b": same(1)}, model=NAMED),
    "values that shape": calls.with_profiles({}, model=SHAPED),
    "a profile itself": calls.profile_itself,
    "refused at once": calls.refused_at_once,
    "forgotten initialisers": calls.forgotten_initialisers,
    "garbage": calls.parsed(b"garbage garbage"),
    "half a model": calls.parsed(doubling()[:-20]),
    "an unknown operator": calls.parsed(network([culprit("Unknown", "x")], VECTOR, {"y": (FP16, (4,))})),
    "mixed types": calls.parsed(
        network([culprit("Mul", "x", "w")], VECTOR, {"y": (FP16, (4,))}, {"w": np.ones(4, np.float32)})
    ),
    "shapes that do not fit": calls.parsed(
        network([culprit("Add", "x", "w")], VECTOR, {"y": (FP16, (4,))}, {"w": np.ones(3, np.float16)})
    ),
    "integers in a product": calls.parsed(
        network(
            [culprit("MatMul", "x", "w")],
            {"x": (INT64, (1, 4))},
            {"y": (INT64, (1, 4))},
            {"w": np.ones((4, 4), np.int64)},
        )
    ),
    "no file": calls.from_file(None),
    "an empty file": calls.from_file(b""),
    "half a file": calls.from_file(doubling()[:-20]),
    "a file": calls.from_file(doubling(2)),
    "parsed twice": lambda shop: [shop.parser.parse(doubling(2)) for _ in range(2)],
    "nothing parsed": calls.built,
    "the interface": calls.interface,
    "memory of a plan": calls.memory_of_a_plan,
    "a monitor": calls.monitored(lambda: True),
    "a monitor that says no": calls.monitored(lambda: False),
    "a monitor that raises": calls.monitored(lambda: 1 / 0),
    "memory pools": calls.pools,
    "flags": calls.flags,
    "no engine": calls.loaded,
    "a timing cache": calls.of_a_fresh_timing_cache,
    "not asked to be strongly typed": calls.untyped,
}


def outcome(name: str, real: bool) -> tuple[Any, bool]:
    """What the calls come to, and whether an error was logged."""
    gc.collect()  # the real one has a single logger while anything of it lives
    with pretended(Settings("11.4.0", real=real, capability=(8, 6))) as machine:
        shop = Workshop(machine.trt)
        found = CALLS[name](shop)
        lines = [line for line in shop.log.lines if line.startswith(("ERROR", "INTERNAL_ERROR"))]
        return found, any(not any(mark in line for mark in NO_GPU) for line in lines)


@pytest.mark.parametrize("name", CALLS)
def test_the_double_does_what_the_real_one_does(name):
    assert outcome(name, real=False) == outcome(name, real=True)


def test_no_builder_is_left_behind():
    """The first that lives would keep its logger, and what is wrong would be said to that one."""
    for name in CALLS:
        outcome(name, real=True)
        gc.collect()
        with pretended(Settings("11.4.0", real=True, capability=(8, 6))) as machine:
            assert "differs from one already registered" not in Workshop(machine.trt).said, name
