"""A bundle beside whatever else uses ONNX Runtime in the same process."""

from tests.conftest import ROOT, run

SCRIPT = f"""
import sys
import numpy as np
import onnxruntime as ort
sys.path.insert(0, {str(ROOT.parent)!r})
from mobilevlm.runtime import Session

def others():
    session = ort.InferenceSession(sys.argv[1] + "/vision.onnx", providers=["CPUExecutionProvider"])
    pixels = session.get_inputs()[0]
    return session.run(None, {{pixels.name: np.ones(pixels.shape, np.float32)}})[0]

def answer():
    with Session(sys.argv[1]) as session:
        return "".join(session.chat("What is it?", {str(ROOT / "assets" / "shapes.png")!r}, max_new_tokens=6))

before, first, after, second = others(), answer(), others(), answer()
assert np.array_equal(before, after) and first == second
print(first)
"""


def test_an_application_has_sessions_of_its_own(bundles):
    """With ONNX Runtime's defaults, opened before a bundle and after it: neither changes the other."""
    beside = run("-c", SCRIPT, bundles["v2_ldpnetv2_336"])
    assert beside.returncode == 0 and "Error" not in beside.stdout, beside.stderr
    assert beside.stdout.strip()
