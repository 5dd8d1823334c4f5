"""Runs a bundle's sample through every stage, and compares with PyTorch and with what the build's own stages gave.

A bundle is built on one machine and runs on another, whose kernels nobody may have tried. Float results differ from one
kind of CPU to the next by a rounding here and there, and behind int8 values by as much as int8 itself: a value near the
middle between two becomes the other one, and all layers behind it see it. So the floors are the build's
(`written_form.py`), and where nothing that matters differs from the machine of the build, results have to be
the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.decibels import snr_db
from mobilevlm.engines.machine import fingerprint
from mobilevlm.engines.stage_form import OPENVINO
from mobilevlm.engines.stages import (
    BUILT,
    DECODER,
    FIRST_LOGITS,
    IMAGE_EMBEDS,
    LOGITS,
    PIXEL_VALUES,
    PREFILL,
    QUESTION_ROWS,
    VISION,
)

from .decoder import Decoder
from .sample_file import answer_of, read_sample

# Floor against the build's own results on the same kernels: integers give the same bits, float32 embeddings 120 dB.
SAME_DB = 100.0
# Subtracted for two roundings of the same values, each as far from the truth as the build's floor allows.
TWICE_DB = 3.0
# Subtracted from what the build measured against PyTorch: logits of one token vary by as much from CPU to CPU.
WORSE_DB = 10.0
FLOAT_DB = 90.0  # highest floor against PyTorch: floats added in another order need not be better than this
# Highest floor of a device that computes in float16 or 16-bit integers, where the build's run is in float32.
DEVICE_DB = 30.0


@dataclass(frozen=True)
class Finding:
    """One tensor of a stage, compared.

    Attributes:
        stage: that computed it.
        tensor: its name.
        reference: `PyTorch`, or `the build` for what its own stage gave.
        snr_db: the reference's power over that of the difference; NaN where something is not finite.
        floor_db: the least it may be.
    """

    stage: str
    tensor: str
    reference: str
    snr_db: float
    floor_db: float

    @property
    def is_good(self) -> bool:
        """Whether it is at least the floor; NaN is not."""
        return self.snr_db >= self.floor_db

    def __str__(self) -> str:
        return (
            f"stage {self.stage}, {self.tensor}: {self.snr_db:.1f} dB against {self.reference}, at least "
            f"{self.floor_db:.1f}"
        )


def run_sample(decoder: Decoder) -> list[Finding]:
    """Runs the image, prompt and answer of a bundle's sample, the prompt with PyTorch's image embeddings in it.

    Raises:
        BundleError: the sample is damaged.
    """
    bundle, same_arithmetic = decoder.bundle, decoder.runner.same_arithmetic
    golden = read_sample(bundle)
    outputs = _outputs(golden, decoder)
    found = []
    for (stage, tensor), got in outputs.items():
        noted = bundle.manifest.verification.get(stage, {}).get(tensor)
        if noted is None or "snr_db" not in noted:  # a bundle of an older version
            continue
        measured = min(noted["snr_db"] - WORSE_DB, FLOAT_DB)
        floor = _floor_here(max(noted.get("floor_db", 0.0), measured), same_arithmetic)
        found.append(Finding(stage, tensor, "PyTorch", snr_db(got, golden[tensor].reshape(got.shape)), floor))
        of_form = bundle.manifest.verification.get(f"{stage}.form", {}).get(tensor)
        if of_form is not None and "floor_db" in of_form and f"{BUILT}{tensor}" in golden:
            built = golden[f"{BUILT}{tensor}"].reshape(got.shape)
            apart = _floor_here(of_form["floor_db"] - TWICE_DB, same_arithmetic)
            floor = SAME_DB if _same_kernels(decoder, stage) else apart
            found.append(Finding(stage, tensor, "the build", snr_db(got, built), max(floor, apart)))
    return found


def _outputs(golden: Mapping[str, np.ndarray], decoder: Decoder) -> dict[tuple[str, str], np.ndarray]:
    """Returns the stages' outputs by stage and tensor, in the shapes that a bundle's sample stores."""
    found = {}
    if decoder.bundle.has_vision:
        found[VISION, IMAGE_EMBEDS] = np.asarray(decoder.encode_image(golden[PIXEL_VALUES]))
    shown = golden[IMAGE_EMBEDS] if decoder.bundle.has_vision else ()
    prompt, first = np.asarray(decoder.splice(golden["input_ids"].tolist(), shown), np.float32), 0
    if FIRST_LOGITS in golden:  # not in a bundle of an older version
        first = len(prompt) - min(QUESTION_ROWS, len(prompt) // 2)
        stage = PREFILL if PREFILL in decoder.bundle.manifest.precision else DECODER
        found[stage, FIRST_LOGITS] = np.array(decoder.prefill(prompt[:first], 0))[None]
    logits = [np.array(decoder.decode(prompt[first:], first))]
    for number, token in enumerate(answer_of(golden).tolist()):
        logits.append(np.array(decoder.decode(decoder.embed([token]), len(prompt) + number)))
    found[DECODER, LOGITS] = np.stack(logits)
    return found


def _floor_here(floor_db: float, same_arithmetic: bool) -> float:
    """Returns the build's floor where the bundle runs: lower on an NPU or a GPU, whose arithmetic is another."""
    return floor_db if same_arithmetic else min(floor_db, DEVICE_DB)


def _same_kernels(decoder: Decoder, stage: str) -> bool:
    """Whether a stage must give what the build's gave, bit for bit but for sums of floats."""
    bundle = decoder.bundle
    if not decoder.runner.same_arithmetic or any(form.runtime == OPENVINO for form in bundle.manifest.forms.values()):
        return False  # OpenVINO chooses its kernels itself
    has_prefill = PREFILL in bundle.manifest.precision
    if has_prefill and stage != VISION and decoder.prompts_by != PREFILL:
        return False  # the decoder's kernels filled the cache
    return not differences(bundle.manifest.machine)


def differences(machine: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Returns what differs here from the machine of a build: by name, there and here."""
    here = fingerprint()
    names = [name for name in ("cpu", "cores", "onnxruntime") if machine.get(name) != here.get(name)]
    return {name: (machine.get(name, "unknown"), here.get(name, "unknown")) for name in names}


def require(bundle: Bundle, found: list[Finding], remedy: str) -> None:
    """Refuses a bundle that computes something else here than where it was built.

    Args:
        bundle: whose sample was run.
        found: by `run_sample`.
        remedy: of the backend that ran it, see `Runner.remedy`.

    Raises:
        BundleError: names stages, figures, what differs from the machine of the build, and remedies.
    """
    bad = [finding for finding in found if not finding.is_good]
    if not bad:
        return
    other = differences(bundle.manifest.machine) if bundle.manifest.machine else {}
    if other:
        changed = "; ".join(f"{name} was {there}, here {here}" for name, (there, here) in other.items())
        cause = f"What differs from the machine of the build: {changed}. "
    elif bundle.manifest.machine:
        cause = "This machine is like the one of the build, so its files are not those that the build made. "
    else:
        cause = f"It is of a version that did not note where it was built; here is {fingerprint()['cpu']}. "
    raise BundleError(
        f"{bundle.directory} computes something else here than PyTorch and its build: {'; '.join(map(str, bad))}. "
        f"{cause}{remedy}. --no-check opens it all the same"
    )
