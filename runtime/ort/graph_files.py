"""Checks the graphs of a bundle before ONNX Runtime or OpenVINO opens them."""

from __future__ import annotations

from collections.abc import Collection

from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.graph_check import GraphError, read_checked, require_tensors
from mobilevlm.engines.graph_shapes import Tensors, decoder_tensors, prefill_tensors, vision_tensors


def require_graph(bundle: Bundle, stage: str, part: str, computed: Collection[str]) -> None:
    """Refuses a graph that does not fit the bundle's model, or whose weights lie outside the bundle.

    Args:
        bundle: with the graph.
        stage: that it belongs to.
        part: its name.
        computed: weights that are made when it is opened.

    Raises:
        BundleError: it is damaged, or no build wrote it.
    """
    require_fitting(bundle, stages.onnx_file(part), _tensors(bundle, stage, part), computed)


def require_fitting(
    bundle: Bundle, name: str, tensors: tuple[Tensors, Tensors], computed: Collection[str] = ()
) -> None:
    """Refuses a graph that does not fit its place, or whose weights or other files lie outside the bundle.

    Args:
        bundle: with the graph.
        name: of its file.
        tensors: inputs and outputs that it has there, see `graph_shapes`.
        computed: weights that are made when it is opened.

    Raises:
        BundleError: it is damaged, another stage's, or names other files.
    """
    path = bundle.file(name)
    try:
        require_tensors(read_checked(path, bundle.manifest.files, frozenset(computed)), *tensors)
    except (GraphError, OSError) as error:
        raise bundle.damaged(f"{name} cannot be used: {error}") from None


def _tensors(bundle: Bundle, stage: str, part: str) -> tuple[Tensors, Tensors]:
    config, manifest = bundle.config, bundle.manifest
    if stage == stages.VISION:
        return vision_tensors(config, manifest.num_image_tokens)
    if stage == stages.DECODER:
        return decoder_tensors(config, manifest.max_context)
    layers = stages.parts(stage, config.num_hidden_layers, manifest.forms[stage].layers_per_file)[part]
    return prefill_tensors(config, layers)
