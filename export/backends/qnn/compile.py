"""Compiles a bundle's graphs for one system, and puts the binaries beside them."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from mobilevlm.engines import stages
from mobilevlm.engines.chunks import PROMPT_ROWS
from mobilevlm.engines.qnn.compile import Compiled, compile_group
from mobilevlm.engines.qnn.socs import Soc

from ..stage_plan import StagePlan


def compile_stages(plan: StagePlan, soc: Soc, directory: Path) -> tuple[list[Compiled], list[str]]:
    """Adds context binaries to a directory, and the files that name these.

    Args:
        plan: the stages.
        soc: what to compile for.
        directory: holds the graphs.

    Returns:
        What came of each graph, and the files that a device does not need any more.

    Raises:
        UserError: the NPU does not take a graph whole, or memory ran out.
    """
    groups = [(part, [stages.chunk_graph(part, rows) for rows in (PROMPT_ROWS, 1)]) for part in plan.parts]
    if stages.VISION in plan.precisions:
        groups.insert(0, (stages.VISION, [stages.VISION]))
    found: list[Compiled] = []
    spare: list[str] = []
    with tqdm(total=len(groups), desc=f"compiling for {soc.name}", unit="binary", disable=None) as progress:
        for part, names in groups:
            graphs = [directory / stages.onnx_file(name) for name in names]
            together = [graphs] if soc.shares_weights else [[graph] for graph in graphs]
            for group in together:
                found += compile_group(group, soc)
            spare += [*map(stages.onnx_file, names), stages.weights_file(part)]
            progress.update()
    return found, spare
