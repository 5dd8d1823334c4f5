"""Each rule of TensorRT has a graph that breaks it, and is refused with the node named; a good one passes."""

from __future__ import annotations

import onnx
import pytest

from mobilevlm.engines.tensorrt.rules.check import check
from mobilevlm.engines.tensorrt.rules.operators import OPERATORS
from tests.engines.bad_graphs import BAD, GOOD


@pytest.mark.parametrize("name", BAD)
def test_a_bad_graph_is_refused_and_the_node_is_named(name):
    draft, version, node, rule = BAD[name]
    found = check(draft.model(), version)
    assert any(node in one.node and rule in str(one) for one in found), list(map(str, found))
    assert all(one.remedy for one in found)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_graph_passes(name):
    draft, versions = GOOD[name]
    assert {version: check(draft.model(), version) for version in versions} == dict.fromkeys(versions, [])


def test_operators_are_onnxs_own():
    """Nothing in the table is misspelt."""
    for name in OPERATORS:
        assert onnx.defs.has(name), name
