"""Runs a bundle's sample through every stage, and compares with PyTorch and with what the build's own stages gave.

A bundle is built on one machine and runs on another, whose kernels nobody may have tried. Float results differ from one
kind of CPU to the next by a rounding here and there, and behind int8 values by as much as int8 itself: a value near the
middle between two becomes the other one, and all layers behind it see it. So the floors are the build's
(`written_form.py`), and where nothing that matters differs from the machine of the build, results have to be
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from safetensors.numpy import load_file

from mobilevlm.commands import localized
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.decibels import snr_db
from mobilevlm.engines.machine import fingerprint
from mobilevlm.engines.stages import (
    BUILT,
    DECODER,
    FIRST_LOGITS,
    GOLDEN_FILE,
    IMAGE_EMBEDS,
    LOGITS,
    PIXEL_VALUES,
    PREFILL,
    QUESTION_ROWS,
    VISION,
)
from mobilevlm.engines.targets import INT8_AMX, TARGETS
from mobilevlm.text.prompt import IMAGE_TOKEN_INDEX

from .runner import Runner

# Of the build's own results, on the same kernels: integers give the same bits, a float32 picture 120 dB.
SAME_DB = 100.0
# Two roundings of the same values, each as far from the truth as the build's floor allows.
TWICE_DB = 3.0
WORSE_DB = 10.0  # than at the build may a stage be against PyTorch: logits of one row vary by as much from CPU to CPU
FLOAT_DB = 90.0  # and floats added in another order need not be better than this
# Arithmetic in float16 or 16-bit integers, which a build's float32 stand-in does not have.
DEVICE_DB = 30.0


@runtime_checkable
class PrefillRunner(Runner, Protocol):
    """A runner that may have a separate prefill.

    Attributes:
        prompts_by: stage that long prompts run on.
    """

    prompts_by: str

    def prefill(self, inputs_embeds: np.ndarray, past: int) -> np.ndarray:
        """`decode` on the graphs that long prompts run on."""


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


def run_sample(bundle: Bundle, runner: Runner, row: Callable[[int], np.ndarray]) -> list[Finding]:
    """Run the sample's picture, prompt and answer, the prompt with PyTorch's picture in it.

    Args:
        bundle: whose sample it is.
        runner: runs its stages.
        row: a token's row (1, D) of the embedding table.

    Raises:
        BundleError: the sample is damaged.
    """
    try:
        golden = load_file(bundle.path(GOLDEN_FILE))
        outputs = _outputs(golden, bundle, runner, row)
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise BundleError(
            f"the sample of {bundle.directory} cannot be run ({error}). Build the bundle again: "
            f"{localized(bundle.manifest.command)}"
        ) from None
    found = []
    for (stage, tensor), got in outputs.items():
        noted = bundle.manifest.verification.get(stage, {}).get(tensor)
        if noted is None or "snr_db" not in noted:  # a bundle of an older version
            continue
        measured = min(noted["snr_db"] - WORSE_DB, FLOAT_DB)
        floor = _device(bundle, max(noted.get("floor_db", 0.0), measured))
        found.append(Finding(stage, tensor, "PyTorch", snr_db(got, golden[tensor].reshape(got.shape)), floor))
        of_form = bundle.manifest.verification.get(f"{stage}.form", {}).get(tensor)
        if of_form is not None and f"{BUILT}{tensor}" in golden:
            built = golden[f"{BUILT}{tensor}"].reshape(got.shape)
            apart = _device(bundle, of_form["floor_db"] - TWICE_DB)
            floor = SAME_DB if _same_kernels(bundle, stage, runner) else apart
            found.append(Finding(stage, tensor, "the build", snr_db(got, built), max(floor, apart)))
    return found


def _outputs(
    golden: Mapping[str, np.ndarray], bundle: Bundle, runner: Runner, row: Callable[[int], np.ndarray]
) -> dict[tuple[str, str], np.ndarray]:
    """Outputs by stage and tensor."""
    found = {}
    if bundle.has_vision:
        found[VISION, IMAGE_EMBEDS] = np.asarray(runner.encode_image(golden[PIXEL_VALUES]))
    ids = golden["input_ids"].tolist()
    rows = np.concatenate([golden[IMAGE_EMBEDS][0] if token == IMAGE_TOKEN_INDEX else row(token) for token in ids])
    rows, first = rows.astype(np.float32, copy=False), 0
    if FIRST_LOGITS in golden:  # not in a bundle of an older version
        first = len(rows) - min(QUESTION_ROWS, len(rows) // 2)
        run = runner.prefill if isinstance(runner, PrefillRunner) else runner.decode
        stage = PREFILL if PREFILL in bundle.manifest.precision else DECODER
        found[stage, FIRST_LOGITS] = run(rows[:first], 0)[None].copy()
    logits = [runner.decode(rows[first:], first).copy()]
    for number, token in enumerate(golden.get("answer", golden["tokens"][:-1]).tolist()):
        logits.append(runner.decode(row(token), len(rows) + number).copy())
    found[DECODER, LOGITS] = np.stack(logits)
    return found


def _device(bundle: Bundle, floor_db: float) -> float:
    """A build's floor where the bundle runs: on an NPU or a GPU arithmetic is another than the build's."""
    target = TARGETS.get(bundle.manifest.target)
    return floor_db if target is not None and target.backend == "ort" else min(floor_db, DEVICE_DB)


def _same_kernels(bundle: Bundle, stage: str, runner: Runner) -> bool:
    """Whether a stage must give what the build's gave, bit for bit but for sums of floats."""
    target = TARGETS.get(bundle.manifest.target)
    if target is None or target.backend != "ort" or INT8_AMX in bundle.manifest.precision.values():
        return False  # OpenVINO chooses its kernels itself
    has_prefill = PREFILL in bundle.manifest.precision
    if has_prefill and stage != VISION and getattr(runner, "prompts_by", DECODER) != PREFILL:
        return False  # the decoder's kernels filled the cache
    return not differences(bundle.manifest.machine)


def differences(machine: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What is another here than on the machine of a build: by name, there and here."""
    here = fingerprint()
    names = [name for name in ("cpu", "cores", "onnxruntime") if machine.get(name) != here.get(name)]
    return {name: (machine.get(name, "unknown"), here.get(name, "unknown")) for name in names}


def require(bundle: Bundle, found: list[Finding]) -> None:
    """Refuse a bundle that computes something else here than where it was built.

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
    built_with = bundle.manifest.versions.get("onnxruntime")
    version = f", or with ONNX Runtime {built_with} (pip install onnxruntime=={built_with})" * ("onnxruntime" in other)
    raise BundleError(
        f"{bundle.directory} computes something else here than PyTorch and its build: {'; '.join(map(str, bad))}. "
        f"{cause}Build it on this machine{version}: {localized(bundle.manifest.command)} (or with --precision "
        "fp32, which needs no integer kernels). --no-check opens it all the same"
    )
