"""Writes the graphs of one variant: vision encoder, embedding table and decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto
from tqdm import tqdm

from mobilevlm.engines import stages
from mobilevlm.engines.embed_tokens import SCALE, VALUES, as_int8

from ..backends.ort.write import calibrated
from ..backends.stage_plan import StagePlan
from ..lowerings import hf
from ..precisions import precision
from ..split.decoder import write_decoder
from ..split.graph import Graph, no_moments
from ..split.tensor_data import to_numpy
from ..split.vision import write_vision
from ..verification.written_weights import Written, WrittenGraph
from ..weights.equalize import Balanced
from .names import (
    DECODER_MODEL,
    EMBED_TOKENS,
    IMAGE_FEATURES,
    INPUT_IDS,
    VISION_ENCODER,
    Variant,
    data_path,
    onnx_path,
)

PARTS = {stages.VISION: VISION_ENCODER, stages.DECODER: DECODER_MODEL}
TABLE, TABLE_SCALES = "embed_tokens.weight", "embed_tokens.scales"


def write_graphs(plan: StagePlan, variant: Variant, directory: Path, image_token: int, progress: tqdm) -> Written:
    """Writes a variant's graphs.

    Args:
        plan: the stages, all in the variant's precision.
        variant: its names.
        directory: receives the files.
        image_token: id of the image token, for which the table has a row.
        progress: counts bytes of weights.
    """
    even = Balanced(plan.checkpoint.tensors, plan.checkpoint.config)
    cache, moments = calibrated(plan, even)
    sources: dict[str, Mapping[str, torch.Tensor]] = {}
    for stage, name in plan.precisions.items():
        progress.set_description(f"writing {stage} {variant.dtype}")
        sources[stage] = even if plan.facts[stage].form.quantized else plan.checkpoint.tensors
        part, config = variant.part(PARTS[stage]), plan.checkpoint.config
        with Graph(
            stage,
            sources[stage],
            precision(name),
            data_path(directory, part),
            progress.update,
            moments=moments if stage == stages.DECODER else no_moments,
        ) as graph:
            if stage == stages.VISION:
                write_vision(graph, config, hf, IMAGE_FEATURES)
            else:
                write_decoder(graph, config, hf, cache, range(config.num_hidden_layers), every_position=True)
            graph.save(onnx_path(directory, part))
    progress.set_description(f"writing embed_tokens {variant.dtype}")
    _write_table(plan, variant.part(EMBED_TOKENS), directory, image_token, progress.update)
    return Written(sources, {stage: [variant.part(PARTS[stage])] for stage in plan.precisions})


def _write_table(
    plan: StagePlan, part: str, directory: Path, image_token: int, on_bytes: Callable[[int], object]
) -> None:
    """Ids to rows, as the variant's bundle stores them; the image token's are zeros, unless the model has that row."""
    weight = to_numpy(plan.checkpoint.tensors["model.embed_tokens.weight"])
    missing = max(0, image_token + 1 - len(weight))
    rows = np.concatenate([weight, np.zeros((missing, weight.shape[1]), np.float32)])
    dtype = plan.facts[stages.DECODER].table_dtype
    tensors = plan.checkpoint.tensors
    with Graph(EMBED_TOKENS, tensors, precision("fp32"), data_path(directory, part), on_bytes) as graph:
        ids = graph.input(INPUT_IDS, TensorProto.INT64, [*hf.POSITIONS])
        shape = [*hf.POSITIONS, rows.shape[1]]
        if dtype == np.int8:
            stored = as_int8(rows)
            values = graph.op("Gather", graph.initializer(TABLE, stored[VALUES]), ids, axis=0)
            scales = graph.op("Gather", graph.initializer(TABLE_SCALES, stored[SCALE][:, None]), ids, axis=0)
            graph.op("Mul", graph.op("Cast", values, to=TensorProto.FLOAT), scales, out=stages.INPUTS_EMBEDS)
        else:
            found = graph.op("Gather", graph.initializer(TABLE, rows.astype(dtype)), ids, axis=0)
            graph.op("Cast", found, to=TensorProto.FLOAT, out=stages.INPUTS_EMBEDS)
        graph.output(stages.INPUTS_EMBEDS, TensorProto.FLOAT, shape)
        graph.save(onnx_path(directory, part))


def stored_table(path: Path, rows: int) -> np.ndarray:
    """Reads the table back from its graph, in the form of `engines/embed_tokens.py`.

    Args:
        path: the graph.
        rows: of the model's vocabulary.
    """
    graph = WrittenGraph(path)
    values = graph.array(TABLE)[:rows]
    if values.dtype != np.int8:
        return values
    stored = np.empty(rows, np.dtype([(SCALE, "<f4"), (VALUES, "i1", values.shape[1:])]))
    stored[VALUES], stored[SCALE] = values, graph.array(TABLE_SCALES)[:rows, 0]
    return stored
