"""The double's names, values and arguments against NVIDIA's own bindings, which are fetched once and kept."""

from __future__ import annotations

import inspect
import sys

import pytest

from .module import CLASSES, pretended
from .names import TABLE, has, tables
from .real_names import JETPACKS, WHEELS, Unavailable, described, fetch, table, written
from .settings import Settings


@pytest.fixture(scope="module")
def folder(request):
    return request.config.cache.mkdir("tensorrt-bindings")


@pytest.fixture(scope="module")
def real(folder):
    """Descriptions by version."""
    try:
        return described(JETPACKS, folder)
    except Unavailable as reason:
        pytest.skip(f"NVIDIA's bindings cannot be had: {reason}")


def at(spans: dict[str, str], version: str) -> set[str]:
    return {name for name, span in spans.items() if has(span, version)}


@pytest.mark.parametrize("version", JETPACKS)
def test_the_table_has_the_names_of_the_real_bindings_and_no_others(version, real):
    names, found = tables(), real[version]
    for kind, members in found["classes"].items():
        assert at(names["classes"][kind], version) == set(members), kind
    for kind, members in found["enums"].items():
        spans = {name: values.items() for name, values in names["enums"][kind].items()}
        assert {n: value for n, of in spans.items() for span, value in of if has(span, version)} == members, kind
    assert at(names["module"], version) == set(found["module"])
    assert (len(names["classes"]), len(names["enums"])) == (len(found["classes"]), len(found["enums"]))


@pytest.mark.parametrize("version", JETPACKS)
def test_what_the_double_has_is_called_like_the_real_one(version, real):
    """Methods are methods, with these arguments in this order; properties are none."""
    compared = 0
    for kind, own in CLASSES.items():
        for name, member in vars(own).items():
            if name.startswith("_") or name not in real[version]["classes"][kind]:
                continue
            overloads = real[version]["classes"][kind][name]
            assert inspect.isfunction(member) == (overloads is not None), (kind, name)
            if overloads is not None:
                arguments = list(inspect.signature(member).parameters)[1:]
                assert any(arguments == overload[: len(arguments)] for overload in overloads), (kind, name, overloads)
                compared += 1
    assert compared >= 40


@pytest.mark.parametrize("version", JETPACKS)
def test_the_doubles_module_has_nothing_that_the_real_one_lacks(version, real):
    with pretended(Settings(version)) as double:
        own = {name for name in vars(double.trt) if not name.startswith("_")}
    assert own <= set(real[version]["module"]) and {"Builder", "OnnxParser", "Runtime"} <= own


@pytest.mark.slow
def test_the_table_is_what_the_command_writes(folder):
    try:
        found = described(WHEELS, folder)
    except Unavailable as reason:
        pytest.skip(f"NVIDIA's bindings cannot be had: {reason}")
    assert written(table(found)) == TABLE.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="there are wheels, and stand-ins, for Linux alone")
def test_bindings_that_cannot_be_had_are_said_to_be(tmp_path, monkeypatch):
    """A release that nobody made, a machine without a compiler, another system."""
    with pytest.raises(Unavailable, match="0.0.1.*pip install"):
        fetch("0.0.1", tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(Unavailable, match="Linux"):
        fetch("10.3.0", tmp_path)
