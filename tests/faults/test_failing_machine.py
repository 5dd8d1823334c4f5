"""Commands on a machine that fails them: done or refused in a sentence, the old output whole, done once it is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.limits import FAULTS, can_fail, cases, make, result

pytestmark = pytest.mark.slow
CASES = list(cases([]))


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    if not can_fail():
        pytest.skip("Linux with cc and namespaces is needed")
    folder = tmp_path_factory.mktemp("failing") / "work"
    make(folder)
    return folder


@pytest.mark.parametrize(("command", "fault"), CASES, ids=[f"{one.name}-{other.name}" for one, other in CASES])
def test_a_command_on_a_machine_that_fails(command, fault, work):
    """Status 0, or 2 and a sentence. Public: Lightning-AI/pytorch-lightning issue 688, lisa-lab/pylearn2 issue 1079."""
    found = result(command, fault, work)
    assert found.is_good, f"{found}\n{found.said}"


def test_every_fault_is_met():
    assert {fault.name for _, fault in CASES} == {fault.name for fault in FAULTS}
