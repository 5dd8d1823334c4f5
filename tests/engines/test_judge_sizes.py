"""NVIDIA's own builder on the published 1.7B size with random weights: what small models hide. Minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mobilevlm.engines.stages import DECODER, VISION
from tests.conftest import BUILD, needs_rtx

from .judged import MINUTES, judged, numbers, products, weights_of_disk

pytestmark = [needs_rtx, pytest.mark.slow]
MODEL = "mobilevlm_v2_1.7b"
VISION_LAYERS, SPARE_KERNELS = 23, 4
# Kernels that docs/nvidia.md has: of a picture; of the decoder's pieces for a prompt and for a token.
INT4 = {"vision": [285], "decoder.0": [121, 110], "decoder.1": [123, 112]}
FP16 = {"vision": [239], "decoder.0": [244, 221]}
CASES = {
    "orin-nano": ("vision=int8,decoder=int4", INT4, {"vision": "Int8", "decoder": "Int4"}, 12),
    "orin": ("fp16", FP16, {"vision": "Half", "decoder": "Half"}, 24),
}


def built(target: str, precision: str, out: Path) -> Path:
    words = ["--random-weights", MODEL, "--target", target, "--precision", precision, "--out", out]
    done = subprocess.run([sys.executable, BUILD, *words], capture_output=True, text=True, timeout=30 * MINUTES)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("target", CASES)
def test_the_builder_makes_of_1_7b_what_it_makes_of_the_demo(target, tmp_path):
    precision, kernels, read_as, layers = CASES[target]
    check(built(target, precision, tmp_path / target), kernels, read_as, layers)


def check(directory: Path, kernels: dict[str, list[int]], read_as: dict[str, str], layers: int) -> None:
    """Attention is one kernel in every layer, a token copies no cache, weights are held once and read as they are."""
    rows, said = judged(directory)
    assert said == "" and [row["graph"] for row in rows] == list(kernels)
    for row in rows:
        part = row["graph"]
        is_vision = part == VISION
        assert row["TensorRT-RTX"].endswith(": built")
        assert numbers(row["attention"]) == ([VISION_LAYERS] if is_vision else [layers, layers]), part
        assert numbers(row["cache copies"])[-1] == 0, part
        found = numbers(row["kernels: prompt, token"])
        assert all(one <= most + SPARE_KERNELS for one, most in zip(found, kernels[part], strict=True)), (part, found)
        # Query, key and value are one product, and gate and up.
        linears, stage = (4 * VISION_LAYERS, VISION) if is_vision else (4 * layers, DECODER)
        assert products(row["products by weights' type"]).get(read_as[stage], 0) >= linears, part
        assert 0 < weights_of_disk(row) <= 1.05, part
