"""Folders for Polygraphy's command line: what went into a graph and came out, and a script with the commands.

`polygraphy.sh` beside this file is what all scripts have in common; what differs from graph to graph stands before it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection
from pathlib import Path

from mobilevlm.commands import localized
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.onnx_wire import node_outputs
from mobilevlm.engines.stages import DECODER, IMAGE_EMBEDS, LOGITS, VISION, onnx_file, weights_file
from mobilevlm.engines.tensorrt.profiles import bundle_profiles
from mobilevlm.engines.tensorrt.require import tensorrt_target

from ..self_check import DEVICE_DB, TWICE_DB
from .polygraphy_json import write_inputs, write_outputs
from .sample_calls import SampleCall, sample_calls

SCRIPT = Path(__file__).with_name("polygraphy.sh")
INPUTS_FILE, OUTPUTS_FILE = "inputs.json", "outputs.json"
# What these give is compared where it is used: dequantised weights as outputs would take their float16 size. The others
# are listed, because `*` means TensorRT's own tensors, too, and with those TensorRT-RTX 1.7.1 refuses int4 graphs.
MOVES = ("Cast", "Concat", "DequantizeLinear", "Identity", "Reshape", "Slice", "TopK", "Transpose")
MEASURED = {VISION: IMAGE_EMBEDS, DECODER: LOGITS}  # tensors whose floors are those of a stage


def write_folders(bundle: Bundle, out: Path, stages: Collection[str]) -> list[Path]:
    """Writes a folder for each size of call of each graph: `inputs.json`, `outputs.json` and `polygraphy.sh`.

    Args:
        bundle: for TensorRT, compiled or not.
        out: gets the folders; files in them are replaced.
        stages: whose graphs are meant.

    Returns:
        The scripts.

    Raises:
        BundleError: the bundle is not for TensorRT, is of a version that noted no floors, or its graphs are missing or
            compute something else than PyTorch.
    """
    tensorrt_target(
        bundle, ", which has no TensorRT graphs: Polygraphy debugs bundles for orin, orin-nx, orin-nano and cuda"
    )
    floors = {stage: _floor_db(bundle, stage) for stage in stages}
    written = []
    for call in sample_calls(bundle):
        if call.stage not in stages:
            continue
        folder = out / call.name
        folder.mkdir(parents=True, exist_ok=True)
        write_inputs(folder / INPUTS_FILE, call.inputs)
        write_outputs(folder / OUTPUTS_FILE, call.outputs, f"{bundle.manifest.name} in float32")
        script = folder / SCRIPT.name
        script.write_text(_script(bundle, call, floors[call.stage]), encoding="utf-8")
        written.append(script)
    return written


def _floor_db(bundle: Bundle, stage: str) -> float:
    """Returns the least SNR of a graph's values against its float32 form, in decibels: as `self_check.py` has it."""
    try:
        noted = bundle.manifest.verification[f"{stage}.form"][MEASURED[stage]]
        return noted["floor_db"] - TWICE_DB
    except KeyError:
        raise BundleError(
            f"{bundle.directory} notes no floor of its {stage}: it has none, or was built by another version. Build it "
            f"again: {localized(bundle.manifest.command)}"
        ) from None


def _script(bundle: Bundle, call: SampleCall, floor_db: float) -> str:
    shapes = {name: list(value.shape) for name, value in call.inputs.items()}
    profiles = bundle_profiles(bundle, call.graph)
    matching = [index for index, one in enumerate(profiles) if {name: list(one[name][0]) for name in one} == shapes]
    files = [bundle.path(name) for name in (onnx_file(call.graph), weights_file(call.graph))]
    computed = node_outputs(bundle.path(onnx_file(call.graph)))
    words = [f"{name}:[{','.join(map(str, shape))}]" for name, shape in shapes.items()] if profiles else []
    lines = [
        "#!/usr/bin/env bash",
        f"# {call.name} of a bundle on its sample, for Polygraphy; written by runtime/verify.py --polygraphy.",
        "# Without a word it says what it can do. docs/polygraphy.md explains it.",
        "set -euo pipefail",
        f"bundle={shlex.quote(str(bundle.directory.resolve()))}",
        f"graph={call.graph}",
        f"profile={matching[0] if profiles else 0}  # of the compiled engine, for the shapes below",
        f"bytes={sum(path.stat().st_size for path in files if path.is_file())}  # of the graph and its weights",
        f"quantizes={'yes' if 'QuantizeLinear' in computed.values() else 'no'}  # float16 values to int8",
        f"floor_db={floor_db:.1f}  # of the graph's own precision: the build's floor",
        f"device_floor_db={min(floor_db, DEVICE_DB):.1f}  # what runtime/verify.py asks of a device",
        f"shapes=({' '.join(map(shlex.quote, words))})",
        f"values=({' '.join(name for name, operator in computed.items() if operator not in MOVES)})",
        f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
    ]
    return "\n".join(lines) + "\n" + SCRIPT.read_text(encoding="utf-8")
