"""Tiny random bundles for TensorRT, written here with onnx.helper, and what numpy says of the same weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.checkpoint.vision_config import VisionConfig
from mobilevlm.engines import stages
from mobilevlm.engines.bundle import write_manifest
from mobilevlm.engines.manifest import Manifest
from tests.conftest import GOLDEN

LAYERS, WIDTH, HEADS, HEAD_DIM, INNER, VOCABULARY = 4, 32, 2, 16, 48, 64
MAX_CONTEXT = 600
TOP = 8  # of the vocabulary
EPS = 1e-6
KINDS = {"fp16": (TensorProto.FLOAT16, np.float16), "fp32": (TensorProto.FLOAT, np.float32)}


def config() -> ModelConfig:
    """Of the tiny model; what is about pictures is a golden's, but for the tower's own sizes."""
    raw = json.loads((GOLDEN / "v2_ldpnetv2_336" / "ckpt_safetensors" / "config.json").read_text())
    raw |= {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "vocab_size": VOCABULARY}
    raw |= {"num_key_value_heads": HEADS, "intermediate_size": INNER, "max_position_embeddings": 2048}
    sizes = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": 3, "num_attention_heads": HEADS}
    raw["vision"] = asdict(VisionConfig(**sizes, image_size=8, patch_size=4))
    return raw


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """By name, (in, out) float32 with values that float16 has."""
    generator = np.random.default_rng(seed)
    shapes = {"head": (WIDTH, VOCABULARY)}
    for layer in range(LAYERS):
        shapes |= {f"{layer}.{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "o")}
        shapes |= {f"{layer}.gate": (WIDTH, INNER), f"{layer}.up": (WIDTH, INNER), f"{layer}.down": (INNER, WIDTH)}
    drawn = {name: generator.normal(0, 1.5 / shape[0] ** 0.5, shape) for name, shape in shapes.items()}
    drawn["head"] *= 2
    return {name: array.astype(np.float16).astype(np.float32) for name, array in drawn.items()}


class Writer:
    """Collects nodes and constants of a graph."""

    def __init__(self, precision: str):
        self.kind, self.dtype = KINDS[precision]
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._numbers = count()

    def constant(self, array: np.ndarray, name: str | None = None) -> str:
        name = name or f"constant.{next(self._numbers)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def shape(self, *dims: int) -> str:
        return self.constant(np.array(dims, np.int64))

    def __call__(self, operator: str, *inputs: str, to: str | None = None, **attributes) -> str:
        output = to or f"{operator.lower()}.{next(self._numbers)}"
        attributes = {key.rstrip("_"): value for key, value in attributes.items()}  # Cast has one named `to`
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"{output}.node", **attributes))
        return output

    def norm(self, rows: str) -> str:
        wide = self("Cast", rows, to_=TensorProto.FLOAT) if self.kind == TensorProto.FLOAT16 else rows
        mean = self("ReduceMean", self("Mul", wide, wide), self.shape(-1), keepdims=1)
        wide = self("Div", wide, self("Sqrt", self("Add", mean, self.constant(np.float32(EPS)))))
        return self("Cast", wide, to_=self.kind) if self.kind == TensorProto.FLOAT16 else wide


def decoder(piece: range, precision: str, arrays: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A piece of the decoder as the contract of graphs has it."""
    write = Writer(precision)
    kind = write.kind
    first, last = piece.start == 0, piece.stop == LAYERS
    rows = stages.INPUTS_EMBEDS if first else stages.HIDDEN_STATES
    value = helper.make_tensor_value_info
    inputs = [
        value(rows, kind, (1, "rows", WIDTH)),
        value(stages.ATTENTION_MASK, kind, (1, 1, "sequence", "columns")),
    ]
    table = (1, "sequence", 1, HEAD_DIM)
    inputs += [value(name, TensorProto.FLOAT, table) for name in (stages.ROPE_COS, stages.ROPE_SIN)]
    outputs, new = [], []
    for layer in piece:

        def weight(name: str, layer: int = layer) -> str:
            name = f"{layer}.{name}"
            return write.constant(arrays[name].astype(write.dtype), name)

        normed = write.norm(rows)
        parts = {}
        for name in "qkv":
            flat = write("MatMul", normed, weight(name))
            spare = write("Slice", flat, write.shape(0), write.shape(1), write.shape(1))
            flat = write("Slice", flat, write.shape(1), write.shape(2**31), write.shape(1))
            parts[name] = write("Reshape", flat, write.shape(1, -1, HEADS, HEAD_DIM))
        caches = [stages.past(layer, part) for part in stages.CACHE_PARTS]
        inputs += [value(name, kind, (1, "past", HEADS, HEAD_DIM)) for name in caches]
        mixed = write("Reshape", _attention(write, parts, caches, new), write.shape(1, -1, WIDTH))
        mixed = write("Concat", spare, mixed, axis=1)
        rows = write("Add", rows, write("MatMul", mixed, weight("o")))
        normed = write.norm(rows)
        gate = write("MatMul", normed, weight("gate"))
        inner = write("Mul", write("Mul", gate, write("Sigmoid", gate)), write("MatMul", normed, weight("up")))
        to = None if last or layer != piece[-1] else stages.NEXT_HIDDEN_STATES
        rows = write("Add", rows, write("MatMul", inner, weight("down")), to=to)
    if last:
        rows = write("Slice", rows, write.shape(-1), write.shape(2**31), write.shape(1))
        row = write("Reshape", write.norm(rows), write.shape(1, WIDTH))
        logits = write("MatMul", row, write.constant(arrays["head"].astype(write.dtype), "head"))
        write("Cast", logits, to=stages.LOGITS, to_=TensorProto.FLOAT)
        outputs.append(value(stages.LOGITS, TensorProto.FLOAT, (1, VOCABULARY)))
        top = [stages.TOP_LOGITS, stages.TOP_TOKENS]
        write.nodes.append(helper.make_node("TopK", [stages.LOGITS, write.shape(TOP)], top, name="top.node"))
        kinds = (TensorProto.FLOAT, TensorProto.INT64)
        outputs += [value(name, kind, (1, TOP)) for name, kind in zip(top, kinds, strict=True)]
    else:
        outputs.append(value(rows, kind, (1, "rows", WIDTH)))
    write("Concat", *new, to=stages.NEW_ROWS, axis=0)
    outputs.append(value(stages.NEW_ROWS, kind, (2 * len(piece), "sequence", WIDTH)))
    graph = helper.make_graph(write.nodes, "decoder", inputs, outputs, write.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _attention(write: Writer, parts: dict[str, str], caches: list[str], new: list[str]) -> str:
    half = HEAD_DIM // 2

    def turned(name: str) -> str:
        wide = write("Cast", parts[name], to_=TensorProto.FLOAT)
        halves = [
            write("Slice", wide, write.shape(start), write.shape(start + half), write.shape(3)) for start in (half, 0)
        ]
        swapped = write("Mul", write("Concat", *halves, axis=3), stages.ROPE_SIN)
        return write("Cast", write("Add", write("Mul", wide, stages.ROPE_COS), swapped), to_=write.kind)

    query, key = turned("q"), turned("k")
    new += [write("Reshape", name, write.shape(1, -1, WIDTH)) for name in (key, parts["v"])]
    keys, values = (
        write("Concat", cache, fresh, axis=1) for cache, fresh in zip(caches, (key, parts["v"]), strict=True)
    )
    query = write("Transpose", query, perm=[0, 2, 1, 3])
    query = write("Mul", query, write.constant(np.array(HEAD_DIM**-0.5, write.dtype)))
    scores = write("MatMul", query, write("Transpose", keys, perm=[0, 2, 3, 1]))
    shares = write("Softmax", write("Add", scores, stages.ATTENTION_MASK), axis=-1)
    mixed = write("MatMul", shares, write("Transpose", values, perm=[0, 2, 1, 3]))
    return write("Transpose", mixed, perm=[0, 2, 1, 3])


def vision(precision: str) -> onnx.ModelProto:
    """Pictures of 8 px to 4 rows of the decoder's width: means of quarters, mixed."""
    write = Writer(precision)
    pixels = write("Cast", stages.PIXEL_VALUES, to_=write.kind)
    pooled = write("AveragePool", pixels, kernel_shape=[4, 4], strides=[4, 4])
    rows = write("Transpose", write("Reshape", pooled, write.shape(1, 3, 4)), perm=[0, 2, 1])
    matrix = np.random.default_rng(1).normal(0, 1, (3, WIDTH)).astype(write.dtype)
    write("MatMul", rows, write.constant(matrix, "mix"), to=stages.IMAGE_EMBEDS)
    inputs = [helper.make_tensor_value_info(stages.PIXEL_VALUES, TensorProto.FLOAT, (1, 3, 8, 8))]
    outputs = [helper.make_tensor_value_info(stages.IMAGE_EMBEDS, write.kind, (1, 4, WIDTH))]
    graph = helper.make_graph(write.nodes, "vision", inputs, outputs, write.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def save(model: onnx.ModelProto, directory: Path, graph: str, part: str) -> None:
    """Write a graph whose weights lie in the part's own file."""
    path = directory / stages.onnx_file(graph)
    (directory / stages.weights_file(part)).unlink(missing_ok=True)
    onnx.save(model, path, save_as_external_data=True, location=stages.weights_file(part), size_threshold=256)


def write_bundle(directory: Path, pieces: int = 1, precision: str = "fp16", target: str = "orin") -> Path:
    """A bundle as *prepare* leaves it, but for what only a `Session` reads."""
    directory.mkdir(parents=True)
    arrays = weights()
    save(vision(precision), directory, stages.VISION, stages.VISION)
    parts = stages.decoder_parts(LAYERS, pieces)
    for part, layers in parts.items():
        save(decoder(layers, precision, arrays), directory, part, part)
    write_manifest(
        directory,
        Manifest(
            name="tiny",
            model=config(),
            target=target,
            lowering="strided",
            precision={stages.VISION: precision, stages.DECODER: precision},
            max_context=MAX_CONTEXT,
            num_image_tokens=4,
            command="python export/build_engines.py --model tiny --target orin",
            versions={},
            verification={},
            parts={part: [layers.start, layers.stop] for part, layers in parts.items()},
            files={},
        ),
    )
    return directory


def reference(inputs_embeds: np.ndarray) -> np.ndarray:
    """(S, D) float32 rows from the beginning: (S, V) logits after each, all in float32."""
    arrays, rows = weights(), inputs_embeds.astype(np.float32)
    length, half = len(rows), HEAD_DIM // 2
    turn = np.outer(np.arange(length), 10000.0 ** -(np.arange(half) / half))[:, None]
    hidden = np.triu(np.full((length, length), -1e4, np.float32), 1)

    def norm(x: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS)

    def turned(x: np.ndarray) -> np.ndarray:
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * np.cos(turn) - b * np.sin(turn), b * np.cos(turn) + a * np.sin(turn)], -1)

    for layer in range(LAYERS):
        weight = {name: arrays[f"{layer}.{name}"] for name in ("q", "k", "v", "o", "gate", "up", "down")}
        query, key, value = ((norm(rows) @ weight[name]).reshape(length, HEADS, HEAD_DIM) for name in "qkv")
        scores = np.einsum("shd,thd->hst", turned(query), turned(key)) * HEAD_DIM**-0.5 + hidden
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hst,thd->shd", shares / shares.sum(-1, keepdims=True), value)
        rows = rows + mixed.reshape(length, WIDTH) @ weight["o"]
        gate = norm(rows) @ weight["gate"]
        rows = rows + (gate / (1 + np.exp(-gate)) * (norm(rows) @ weight["up"])) @ weight["down"]
    return norm(rows) @ arrays["head"]
