"""Which stages XNNPACK is asked for, with which threads, and what is said where it is missing.

No wheel for Linux has XNNPACK: what is chosen where it is there is tested as the choice alone.
"""

import os

import pytest

from mobilevlm.engines.targets import TARGETS, Target
from mobilevlm.export.stage_forms import stage_forms
from mobilevlm.runtime.ort import xnnpack
from mobilevlm.runtime.ort.xnnpack import CPU_PROVIDER, PROVIDER, Placement, physical_cores, placement

PHONE, HOST = TARGETS["snapdragon-cpu"], TARGETS["host"]
BOTH = [PROVIDER, CPU_PROVIDER]


def offered(target: Target, stage: str, precision: str) -> bool:
    """Whether a build notes that a stage is offered to XNNPACK."""
    return stage_forms(target, {stage: precision})[stage].xnnpack


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_vision_stage_of_floats_goes_to_xnnpacks_own_threads(precision):
    """As https://onnxruntime.ai/docs/execution-providers/Xnnpack-ExecutionProvider.html recommends."""
    placed = placement(offered(PHONE, "vision", precision), BOTH, cores=8)
    assert placed.providers == ((PROVIDER, {"intra_op_num_threads": "8"}), (CPU_PROVIDER, {}))
    assert placed.entries == {"session.intra_op.allow_spinning": "0"} and placed.threads == 1
    assert placed.uses_xnnpack


@pytest.mark.parametrize(
    "target, stage, precision, available",
    [
        (PHONE, "vision", "int8", BOTH),
        (PHONE, "decoder", "fp32", BOTH),
        (PHONE, "decoder", "int4_symmetric", BOTH),
        (PHONE, "vision", "fp32", [CPU_PROVIDER]),
        (HOST, "vision", "fp32", BOTH),
    ],
)
def test_all_else_stays_on_the_cpu_provider_as_it_was(target, stage, precision, available):
    placed = placement(offered(target, stage, precision), available, cores=8)
    assert placed == Placement() and placed.providers == ((CPU_PROVIDER, {}),)
    assert not placed.entries and placed.threads == 0 and not placed.uses_xnnpack


def test_a_missing_xnnpack_is_said_once_and_only_where_it_is_missed(capsys):
    xnnpack._say_it_is_missing.cache_clear()
    for stage, precision in (("vision", "int8"), ("decoder", "fp32")):
        xnnpack.placement_here(offered(PHONE, stage, precision))
    xnnpack.placement_here(offered(HOST, "vision", "fp32"))
    assert capsys.readouterr().err == ""
    for _ in range(2):
        assert not xnnpack.placement_here(offered(PHONE, "vision", "fp32")).uses_xnnpack
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no XNNPACK" in said
    assert "own CPU kernels" in said and "onnxruntime-android" in said


def test_two_threads_of_a_core_count_once(tmp_path):
    for cpu, core in enumerate("0011"):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text("0\n")
        (topology / "core_id").write_text(f"{core}\n")
    (tmp_path / "cpufreq").mkdir()
    assert physical_cores(tmp_path) == 2
    (tmp_path / "cpu4").mkdir()  # switched off: nothing is known of it
    assert physical_cores(tmp_path) == os.cpu_count()
    assert physical_cores(tmp_path / "elsewhere") == os.cpu_count()
