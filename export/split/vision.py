"""Vision stage: CLIP or SigLIP up to the selected block, and the projector, from pixel_values to image_embeds."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from onnx import TensorProto

from mobilevlm.checkpoint.config import ConfigError, ModelConfig, VisionConfig
from mobilevlm.engines.stages import IMAGE_EMBEDS, PIXEL_VALUES
from mobilevlm.model.projectors import num_image_tokens, projector_of

from .graph import Graph
from .tensor_data import to_numpy

CLIP = "model.vision_tower.vision_tower.vision_model."


def write_vision(graph: Graph, config: ModelConfig, lowering: ModuleType, output: str = IMAGE_EMBEDS) -> None:
    """Writes the vision stage into a graph: only the blocks that are needed, constants folded.

    Args:
        graph: receives nodes and weights.
        config: the model.
        lowering: a module of `export/lowerings/`.
        output: name of the image's embeddings.

    Raises:
        ConfigError: the model takes no images, or its tower has an activation that is not supported.
    """
    vision = config.vision
    if vision is None:
        raise ConfigError("a text-only model has no vision stage")
    x = _embeddings(graph, vision)
    if vision.has_class_token:
        x = _norm(graph, x, "pre_layrnorm", vision)
    for layer in range(config.num_vision_layers):
        x = _block(graph, x, f"encoder.layers.{layer}.", vision, lowering)
        graph.blocks[f"{CLIP}encoder.layers.{layer}"] = x
    if vision.use_post_layernorm:
        x = _norm(graph, x, "post_layernorm", vision)
    if config.mm_vision_select_feature == "patch" and vision.has_class_token:
        bounds = [graph.constant(np.array([value])) for value in (1, config.num_patches + 1, 1)]
        x = graph.op("Slice", x, *bounds)
    x = projector_of(config).to_onnx(graph, x, config)
    graph.blocks["projector"] = graph.op("Identity", x, out=output)
    graph.output(output, graph.kind, [1, num_image_tokens(config), config.hidden_size])


def _embeddings(graph: Graph, vision: VisionConfig) -> str:
    """Patches plus positions, behind the class token where there is one; what is added to the same rows is summed."""
    size, patch = vision.image_size, vision.patch_size
    pixels = graph.narrow(graph.input(PIXEL_VALUES, TensorProto.FLOAT, [1, 3, size, size]))
    kernel = graph.weight(f"{CLIP}embeddings.patch_embedding.weight")
    x = graph.op("Conv", pixels, kernel, kernel_shape=[patch, patch], strides=[patch, patch])
    x = graph.op("Reshape", x, graph.constant(np.array([1, vision.hidden_size, vision.grid**2])))
    x = graph.op("Transpose", x, perm=[0, 2, 1])
    positions = to_numpy(graph.tensors[f"{CLIP}embeddings.position_embedding.weight"])
    if not vision.has_class_token:  # a bias of the patches instead
        table = positions[None] + to_numpy(graph.tensors[f"{CLIP}embeddings.patch_embedding.bias"])
        name = "position_embedding.patches"
        return graph.op("Add", x, graph.initializer(name, graph.narrowed(name, table)))
    first = to_numpy(graph.tensors[f"{CLIP}embeddings.class_embedding"]) + positions[0]
    tables = {"position_embedding.patches": positions[None, 1:], "class_embedding": first[None, None]}
    patches, first = (graph.initializer(name, graph.narrowed(name, table)) for name, table in tables.items())
    return graph.op("Concat", first, graph.op("Add", x, patches), axis=1)


def _norm(graph: Graph, x: str, name: str, vision: VisionConfig) -> str:
    return graph.layer_norm(x, f"{CLIP}{name}", vision.layer_norm_eps)


def _block(graph: Graph, x: str, name: str, vision: VisionConfig, lowering: ModuleType) -> str:
    y = _norm(graph, x, f"{name}layer_norm1", vision)
    layers = [f"{CLIP}{name}self_attn.{part}_proj" for part in "qkv"]
    y = lowering.vision_attention(graph, y, layers, vision.num_attention_heads, vision.hidden_size)
    x = graph.op("Add", x, graph.linear(y, f"{CLIP}{name}self_attn.out_proj"))
    y = graph.linear(_norm(graph, x, f"{name}layer_norm2", vision), f"{CLIP}{name}mlp.fc1")
    y = _activation(graph, y, vision.hidden_act, lowering)
    return graph.op("Add", x, graph.linear(y, f"{CLIP}{name}mlp.fc2"))


def _activation(graph: Graph, x: str, name: str, lowering: ModuleType) -> str:
    if name == "quick_gelu":
        return lowering.quick_gelu(graph, x)
    if name == "gelu":
        return graph.op("Gelu", x)
    return graph.op("Gelu", x, approximate="tanh")  # of `vision_config.ACTIVATIONS`
