"""Names of TensorRT's Python module by version: the double has just those, and our code uses no others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from mobilevlm.engines.tensorrt.library import RTX, import_tensorrt
from tests.conftest import ROOT

from .module import CLASSES, pretended
from .names import has, number, tables
from .settings import Settings
from .small import Workshop, doubling

ONLY_10 = [("BuilderFlag", "FP16"), ("BuilderFlag", "INT8"), ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH")]
SINCE = [("BuilderFlag", "EDITABLE_TIMING_CACHE", (10, 8)), ("BuilderFlag", "DISTRIBUTIVE_INDEPENDENCE", (10, 12))]


@pytest.mark.parametrize("version", ("10.3.0", "10.8.0", "10.16.2", "11.0.0", "11.4.1"))
def test_members_of_enumerations(version):
    with pretended(Settings(version)) as double:
        for kind, name in ONLY_10:
            assert hasattr(getattr(double.trt, kind), name) == (number(version) < (11, 0))
        for kind, name, since in SINCE:
            assert hasattr(getattr(double.trt, kind), name) == (number(version) >= since)
        assert int(double.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == (number(version) < (11, 0))


def test_members_of_objects():
    with pretended(Settings("10.3.0")) as double:
        shop = Workshop(double.trt)
        engine = shop.trt.Runtime(shop.log).deserialize_cuda_engine(shop.plan(doubling(2)))
        with pytest.raises(AttributeError, match="TensorRT 10.3.0 has no attribute 'get_engine_stat'"):
            _ = engine.get_engine_stat
        with pytest.raises(AttributeError, match="tiling_optimization_level"):
            shop.config.tiling_optimization_level = 1
    with pretended(Settings("11.4.1")) as double:
        shop = Workshop(double.trt)
        engine = shop.trt.Runtime(shop.log).deserialize_cuda_engine(shop.plan(doubling(2)))
        with pytest.raises(NotImplementedError, match="knows no IBuilderConfig.tiling_optimization_level"):
            shop.config.tiling_optimization_level = 1
        with pytest.raises(AttributeError, match="TensorRT 11.4.1 has no attribute 'device_memory_size'"):
            _ = engine.device_memory_size
        with pytest.raises(AttributeError, match="int8_calibrator"):
            shop.config.int8_calibrator = None
        with pytest.raises(AttributeError):
            _ = shop.config.no_such_thing


def test_memory_of_a_plan_has_no_length():
    with pretended(Settings()) as double:
        shop = Workshop(double.trt)
        assert shop.parser.parse(doubling(2))
        plan = shop.builder.build_serialized_network(shop.network, shop.config)
        assert plan.nbytes == len(bytes(plan)) == len(memoryview(plan))
        with pytest.raises(TypeError, match="no len"):
            len(plan)


def test_loggers_and_monitors_have_to_initialise_their_base():
    with pretended(Settings()) as double:

        class Forgetful(double.trt.ILogger):
            def __init__(self) -> None: ...

        for kind in (double.trt.Builder, double.trt.Runtime):
            with pytest.raises(TypeError, match="__init__"):
                kind(Forgetful())


@pytest.mark.parametrize("kind", CLASSES)
def test_what_the_double_can_is_what_some_version_has(kind):
    own = {name for name in vars(CLASSES[kind]) if not name.startswith("_")}
    known = set(tables()["classes"][kind])
    assert own <= known


def test_spans_of_versions():
    assert has("10.3+", "11.4.1") and has("10.3..10.16", "10.16.2") and not has("10.3..10.16", "11.0")
    assert has("10.13.0+", "10.13.3") and not has("10.15+", "10.3.0") and not has("10.16", "10.15.1")


FOLDERS = (ROOT / "engines" / "tensorrt", ROOT / "runtime" / "tensorrt")
SOURCES = [path for folder in FOLDERS for path in folder.glob("*.py")]
RTX_ALONE = ("rtx.py", "named_gpus.py", "kernels.py")  # what runs on TensorRT-RTX and nowhere else
SUPPORTED = ("10.3.0", "10.7.0", "10.13.3", "10.16.2", "11.0.0", "11.4.1")


def test_our_code_uses_names_that_every_version_has():
    """Also where no test goes: each `trt.Name` and `trt.Name.MEMBER` in the sources."""
    used = names_used(path for path in SOURCES if path.name not in RTX_ALONE)
    assert {("Builder",), ("MemoryPoolType", "TACTIC_DRAM")} <= used
    for version in SUPPORTED:
        with pretended(Settings(version)) as double:
            assert unknown(double.trt, used) == [], version


def test_our_code_uses_names_that_tensorrt_rtx_has():
    used = names_used(SOURCES)
    assert {("ComputeCapability", "__members__"), ("DynamicShapesKernelSpecializationStrategy",)} <= used
    assert unknown(import_tensorrt(RTX), used) == []


def names_used(paths: Iterable[Path]) -> set[tuple[str, ...]]:
    return {
        tuple(found[1].split(".")[1:])
        for path in paths
        for found in re.finditer(r"\btrt((?:\.[A-Za-z_]\w*)+)", path.read_text())
    }


def unknown(trt, used: set[tuple[str, ...]]) -> list[tuple[str, ...]]:
    found = []
    for names in used:
        thing = trt
        for name in names:
            thing = getattr(thing, name, None)
        if thing is None:
            found.append(names)
    return found
