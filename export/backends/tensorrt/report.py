"""Sections of `report.md` that only bundles for TensorRT have."""

from __future__ import annotations

from pathlib import Path

import onnx
from tqdm import tqdm

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.judge import HEADER, table
from mobilevlm.engines.stages import DECODER, float32_file, onnx_file
from mobilevlm.engines.tables import markdown_lines, markdown_table

from ...verification.stages import HALF_MAX, HEADROOM, Peak
from ..stage_plan import StagePlan


def tensorrt_lines(plan: StagePlan) -> list[str]:
    """Returns items about the decoder's pieces and its calibration."""
    cut = ", ".join(f"{name} (layers {layers.start} to {layers.stop - 1})" for name, layers in plan.parts.items())
    lines = [f"- decoder engines: {cut}"]
    if plan.calibration is None:
        return lines
    read = f"{len(plan.calibration.rows)} conversations of {plan.calibration.path.name}"
    if any(facts.fixes_ranges for facts in plan.facts.values()):
        lines.append(f"- int8: ranges of what linear layers read are those of {read}")
    if plan.facts[DECODER].chooses_weights and plan.choose_weights:
        lines.append(f"- decoder weights chosen by GPTQ on {read}")
    return lines


def weight_bytes(directory: Path) -> dict[str, dict[str, int]]:
    """Returns stage to type to the bytes of weights that are stored in it."""
    found: dict[str, dict[str, int]] = {}
    for path in sorted(directory.glob(onnx_file("*"))):
        if path.name.endswith(float32_file("")):
            continue  # the same weights once more
        sizes = found.setdefault(path.name.split(".")[0], {})
        for tensor in onnx.load(str(path), load_external_data=False).graph.initializer:
            length = next((int(entry.value) for entry in tensor.external_data if entry.key == "length"), 0)
            name = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
            sizes[name] = sizes.get(name, 0) + length
    return found


def render_weights(directory: Path) -> str:
    """Returns a table of what `weight_bytes` finds, as Markdown: an int8 decoder has float16 weights, too."""
    rows = []
    for stage, sizes in weight_bytes(directory).items():
        rows += [[stage, name, f"{size / 1e6:.2f}"] for name, size in sizes.items() if size]
    return f"\n{markdown_table(['stage', 'weights in', 'MB'], rows)}\n"


def render_judgement(bundle: Bundle) -> str:
    """Returns what NVIDIA's own builder makes of the graphs, here and without a GPU, as Markdown.

    Raises:
        UserError: it refuses one, or TensorRT-RTX is not installed.
    """
    lines = ["", "NVIDIA's builder, asked here (`docs/nvidia.md` says what of it a Jetson's shares):", ""]
    with tqdm(desc="asking NVIDIA's builder", total=len(bundle.manifest.parts) + 1, unit="graph", disable=None) as bar:
        for line in table(bundle):
            lines.append(line)
            bar.update(line not in HEADER)
    return "\n".join(lines) + "\n"


def render_peaks(peaks: list[Peak]) -> str:
    """Returns a table of the largest float16 values, as Markdown; nothing where there are none."""
    if not peaks:
        return ""
    lines = [
        "",
        "Arithmetic was checked in float32 on the weights as they are stored. Largest float16 value of each graph on "
        f"the sample (float16 ends at {HALF_MAX:.0f}; {HALF_MAX / HEADROOM:.0f} is the most that is let pass):",
        "",
        *markdown_lines(["graph", "node", "value"], ([peak.graph, peak.node, f"{peak.largest:.4g}"] for peak in peaks)),
    ]
    return "\n".join(lines) + "\n"
