"""A device's install on emulated CPUs: what bundles built here compute and say there.

bash run.sh test --emulated
bash run.sh test --emulated -k arm-a76
"""

from __future__ import annotations

import numpy as np
import pytest

from mobilevlm.engines.cpu import this_cpu
from mobilevlm.engines.decibels import snr_db
from mobilevlm.export.precisions import int8
from mobilevlm.export.verification.differences import VerificationError
from tests.conftest import DEMO, build_here
from tests.emulated.conftest import run_on
from tests.emulated.cpus import CPUS, FLOATS, HERE
from tests.emulated.install import CannotHaveError
from tests.emulated.products import bundle_weights, own_weights, write

pytestmark = pytest.mark.emulated
CASES = [pytest.param(cpu, bundle, id=f"{cpu.name}-{bundle}") for cpu in CPUS for bundle in cpu.bundles]
VNNI = {"avx_vnni", "avx512_vnni", "amx_int8", "asimd"}  # without any of these products saturate
EACH = pytest.mark.parametrize("cpu", CPUS, ids=lambda cpu: cpu.name)
FLOAT32 = (*FLOATS, "phone-fp32")
# Decibels. float32 sums in another order end at 117 or more. In int8 a value close to the middle of two codes becomes
# the other one, which is as much noise as int8 makes anyhow: 33 of a picture, 25 where OpenVINO's other values are
# bfloat16 here and float32 there. Saturated products leave 14 to 17.
LIKE_HERE = {True: 110.0, False: 21.0}
SAME_ANSWERS = {True: 20, False: 18}  # of 20


@pytest.mark.parametrize("cpu, bundle", CASES)
def test_a_bundle_is_what_it_is_here(cpu, bundle, answered):
    try:
        report, _, arrays = answered(cpu, bundle)
    except CannotHaveError as reason:
        pytest.skip(str(reason))
    here, _, arrays_here = answered(HERE, bundle)
    is_float = bundle in FLOAT32
    assert report["is_good"], report["found"]
    for stage, array in arrays.items():
        assert snr_db(array, arrays_here[stage]) >= LIKE_HERE[is_float], stage
    pairs = list(zip(report["answers"], here["answers"], strict=True))
    assert sum(there == ours for there, ours in pairs) >= SAME_ANSWERS[is_float], pairs


@EACH
def test_a_cpu_is_what_it_is_called_and_has_a_devices_packages(cpu, answered):
    try:
        _, about, _ = answered(cpu, cpu.bundles[0])
    except CannotHaveError as reason:
        pytest.skip(str(reason))
    assert set(cpu.has) <= set(about["features"]) and not set(cpu.lacks) & set(about["features"])
    assert about["onnxruntime"] == (cpu.onnxruntime or about["onnxruntime"]) and not about["too_much"]


@pytest.fixture(scope="session")
def products(demo_bundles, tmp_path_factory):
    """A directory of graphs, and what has to come out of each."""
    graphs = tmp_path_factory.mktemp("products")
    wanted = {"own": write(own_weights(), graphs / "own.onnx")}
    for name, directory in demo_bundles.items():
        if weights := bundle_weights(directory):
            wanted[name] = write(weights, graphs / f"{name}.onnx")
    return graphs, wanted


@EACH
def test_products_of_int8_are_exact(cpu, code, products, tmp_path):
    """Of the precision's own weights, of every size and the hardest to add up, and of all that bundles hold."""
    graphs, wanted = products
    try:
        run_on(cpu, code, "run_products.py", graphs, tmp_path)
    except CannotHaveError as reason:
        pytest.skip(str(reason))
    for name, outputs in wanted.items():
        found = np.load(tmp_path / f"{name}.npz")
        assert not [y for y, exact in outputs.items() if not np.array_equal(found[y], exact)], name


def test_products_that_saturate_are_refused_where_they_do(code, tmp_path, monkeypatch):
    """A bundle with scales that reach the largest weight alone, as they were: right with VNNI, not without."""
    monkeypatch.setattr(int8, "exact_scales", lambda weight: np.abs(weight).max(axis=0) / int8.LARGEST)
    bundle, words = tmp_path / "bundle", ["--model", DEMO, "--target", "host"]
    if not VNNI & set(this_cpu().features):
        with pytest.raises(VerificationError):
            build_here(*words, precision="int8", out=bundle)
        return
    build_here(*words, precision="int8", out=bundle)
    older = next(cpu for cpu in CPUS if cpu.name == "x86-avx2")
    assert run_on(HERE, code, "open_bundle.py", bundle).strip() == "opened"
    try:
        said = run_on(older, code, "open_bundle.py", bundle)
    except CannotHaveError as reason:
        pytest.skip(str(reason))
    assert "computes something else here" in said and "stage vision, image_embeds: 1" in said and "AVX2" in said
    assert "Build it on this machine" in said
    assert run_on(HERE, code, "open_bundle.py", bundle).strip() == "opened"
