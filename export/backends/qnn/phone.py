"""Context binaries of a bundle for an NPU, as a phone's benchmark program runs them."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx

from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.chunks import PROMPT_ROWS

from ..results import PHONE_IMAGE, PHONE_PROMPT, PHONE_TOKEN, PhoneMeasure

CONTEXT_FILE = "ep_cache_context"  # attribute of a node that stands for a context binary


def copy_graphs(bundle: Bundle, directory: Path) -> list[PhoneMeasure]:
    """Copies context binaries and the graphs that name them.

    Args:
        bundle: a compiled bundle.
        directory: receives the files.
    """
    graphs = [(PHONE_IMAGE, stages.VISION)] if bundle.has_vision else []
    for measure, rows in ((PHONE_PROMPT, PROMPT_ROWS), (PHONE_TOKEN, 1)):
        graphs += [(measure, stages.chunk_graph(part, rows)) for part in bundle.manifest.parts]
    names = {graph: stages.npu_file(graph) for _, graph in graphs}
    for name in {*names.values(), *(context_file(bundle.path(name)) for name in names.values())}:
        shutil.copyfile(bundle.path(name), directory / name)
    return [PhoneMeasure(measure, "qnn", names[graph]) for measure, graph in graphs]


def context_file(path: Path) -> str:
    """Returns the name of the binary beside a graph that is nothing but a context binary's inputs and outputs."""
    node = next(node for node in onnx.load(path).graph.node if node.op_type == "EPContext")
    return next(one.s.decode() for one in node.attribute if one.name == CONTEXT_FILE)
