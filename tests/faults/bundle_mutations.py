"""Mutations of a bundle: what a bad disk, a half-done copy, a careless editor or an attacker could leave in its place.

Each takes a folder of hard links to an intact bundle, which it breaks before it writes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from mobilevlm.engines.manifest import seal_of

MANIFEST = "bundle.json"
# Values that a field is given: of every JSON type, at the edges of ranges, and what a path or terminal could fall for.
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2,
        3,
        7,
        64,
        4096,
        2**31,
        2**63,
        2**64,
        10**300,
        -(2**63),
        0.0,
        -0.5,
        0.1,
        1e308,
        1e-308,
    ),
    *("", "x", "..", "../../etc/passwd", "/etc/passwd", "a/b", "decoder.weights", "vision", "float32", "int8", "host"),
    *("\x1b[2J", "\ud800", "\x00", "é", "a" * 5000, "python export/build_engines.py; rm -rf ~", "9" * 400),
    *([], [0], [1, 2, 3], [[]], ["x"], {}, {"a": 1}, {"size": 5}, [None] * 50),
)
RAW_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "1" * 5000, "[" * 3000 + "]" * 3000, "{" * 20, '{"a":1,"a":2}')


def overwrite(path: Path, content: bytes) -> None:
    """Replaces a file without writing through its link."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def reseal(directory: Path, manifest: dict[str, Any] | None = None, changed: tuple[str, ...] = ()) -> None:
    """Makes sizes, hashes and seal anew, as an attacker would.

    Args:
        directory: of the bundle.
        manifest: its new content; None for what is there.
        changed: files whose records are made anew.
    """
    raw: Any = json.loads((directory / MANIFEST).read_text()) if manifest is None else manifest
    for name in changed:
        content = (directory / name).read_bytes()
        raw["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if isinstance(raw, dict):
        raw["seal"] = seal_of(raw)
    overwrite(directory / MANIFEST, json.dumps(raw).encode())


def mutate_tree(value: Any, draws: random.Random) -> str:
    """Changes one node of a JSON object in place; returns what was done."""
    nodes = [(holder, key) for holder, key in _nodes(value)]
    holder, key = draws.choice(nodes)
    old = holder[key]
    action = draws.choice(("value", "value", "value", "number", "delete", "rename", "copy", "deep"))
    if action == "number" and isinstance(old, (int, float)) and not isinstance(old, bool):
        holder[key] = draws.choice((old * 2, old + 1, old - 1, -old, old * 1000, old / 3, old // 2 if old else 1))
    elif action == "delete":
        del holder[key]
    elif action == "rename" and isinstance(holder, dict):
        holder[draws.choice(("x", "../x", "", "size", "\x1b[1m", "vision", "decoder"))] = holder.pop(key)
    elif action == "copy":
        other, there = draws.choice(nodes)
        # A copy: the field may lie inside what is copied.
        holder[key] = deepcopy(other[there])
    elif action == "deep":
        deep: Any = old
        for _ in range(draws.choice((2, 40, 900))):
            deep = [deep]
        holder[key] = deep
    else:
        holder[key] = draws.choice(VALUES)
    return f"{action} at {key!r}"


def _nodes(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(items):
        found.append((value, key))
        found += _nodes(one)
    return found


def mutate_bytes(content: bytes, draws: random.Random) -> bytes:
    """Flips, overwrites, inserts, removes or cuts some bytes, often near the beginning, where headers are."""
    data = bytearray(content)
    reach = draws.choice((64, 1024, len(data)))
    for _ in range(draws.choice((1, 1, 2, 8))):
        at = draws.randrange(max(1, min(reach, len(data))))
        action = draws.choice(("flip", "flip", "span", "insert", "remove", "cut", "number"))
        if action == "flip" and data:
            data[at] ^= 1 << draws.randrange(8)
        elif action == "span":
            data[at : at + 16] = draws.randbytes(min(16, len(data) - at))
        elif action == "insert":
            data[at:at] = draws.randbytes(draws.randrange(1, 9))
        elif action == "remove":
            del data[at : at + draws.randrange(1, 9)]
        elif action == "cut":
            del data[draws.randrange(len(data) + 1) :]
        else:
            data[at : at + 8] = draws.choice((b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7))
    return bytes(data)


def mutate_graph(content: bytes, draws: random.Random) -> bytes:
    """Changes an ONNX file as a well-formed one: shapes, types, places of weights, operators, graphs inside."""
    model = onnx.load_from_string(content)
    graph = model.graph
    outside = [tensor for tensor in graph.initializer if tensor.external_data]
    action = draws.choice(("place", "place", "dims", "value", "node", "drop", "attribute", "inside", "type", "name"))
    if action == "place" and outside:
        entry = draws.choice(draws.choice(outside).external_data)
        places = ("/etc/passwd", "../x", "decoder.weights", "computed", "", "bundle.json")
        numbers = ("0", "-1", str(2**62), str(2**64), "x", "1e3", "4096")
        entry.value = draws.choice(places if entry.key == "location" else numbers)
    elif action == "dims" and graph.initializer:
        tensor = draws.choice(graph.initializer)
        if tensor.dims:
            tensor.dims[draws.randrange(len(tensor.dims))] = draws.choice((0, 1, -1, 3, 2**20, 2**40, 2**62))
    elif action == "value":
        info = draws.choice([*graph.input, *graph.output])
        if info.type.tensor_type.shape.dim:
            dimension = draws.choice(info.type.tensor_type.shape.dim)
            dimension.dim_value = draws.choice((0, 1, 3, 2**31, 2**50))
    elif action == "node" and graph.node:
        draws.choice(graph.node).op_type = draws.choice(
            ("Loop", "If", "Expand", "ConstantOfShape", "Identity", "Tile", "X")
        )
    elif action == "drop" and graph.node:
        del graph.node[draws.randrange(len(graph.node))]
    elif action == "attribute":
        numbered = [one for node in graph.node for one in node.attribute if one.type in (1, 2)]
        if numbered:
            one = draws.choice(numbered)
            one.i, one.f = draws.choice((0, -1, 3, 2**31, 2**62)), draws.choice((0.0, -1.0, float("nan"), 1e38))
    elif action == "inside" and graph.node:
        inner = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g", [], [])
        draws.choice(graph.node).attribute.append(helper.make_attribute("body", inner))
    elif action == "type":
        info = draws.choice([*graph.input, *graph.output])
        info.type.tensor_type.elem_type = draws.choice((0, 1, 2, 3, 7, 8, 10, 11, 99))
    else:
        draws.choice([*graph.input, *graph.output]).name = draws.choice(("x", "", "logits"))
    return model.SerializeToString()


def mutate_array(content: bytes, draws: random.Random) -> bytes:
    """Changes the header of a `.npy` file, its length kept."""
    end = content.index(b"\n") if b"\n" in content[:1024] else 0
    header = content[:end].decode("latin1")
    pairs = (
        ("<f4", "<f8"),
        ("<f4", "|O"),
        ("<f2", "<f4"),
        ("False", "True"),
        ("(", "(9"),
        (", ", ",("),
        ("{", "(" * 3000),
    )
    old, new = draws.choice(pairs)
    return header.replace(old, new, 1).encode("latin1")[:end].ljust(end) + content[end:]


def mutate_header(content: bytes, draws: random.Random) -> bytes:
    """Changes the JSON header of a safetensors file."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    mutate_tree(header, draws)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def mutate_file(path: Path, draws: random.Random) -> None:
    """Changes a file, about every second time in the terms of its format."""
    content = path.read_bytes()
    forms: dict[str, Callable[[bytes, random.Random], bytes]] = {
        ".onnx": mutate_graph, ".npy": mutate_array, ".safetensors": mutate_header, ".json": mutate_json,
    }  # fmt: skip
    form = forms.get(path.suffix)
    overwrite(path, form(content, draws) if form and draws.random() < 0.6 else mutate_bytes(content, draws))


def mutate_json(content: bytes, draws: random.Random) -> bytes:
    """Changes a node of a JSON file, or puts in what `json.dumps` would not write."""
    value = json.loads(content)
    if not _nodes(value):
        return draws.choice(RAW_NUMBERS).encode()
    what = mutate_tree(value, draws)
    text = json.dumps(value)
    if draws.random() < 0.15:
        numbers = [part for part in what.split("'") if part]
        text = text.replace(f'"{numbers[-1]}": ', f'"{numbers[-1]}": {draws.choice(RAW_NUMBERS)}, "y": ', 1)
    return text.encode()


def link_out(path: Path, draws: random.Random, outside: Path) -> str:
    """Puts a link, device, FIFO or folder in a file's place; returns which.

    Args:
        path: of the file.
        draws: random numbers.
        outside: a copy of the intact bundle.
    """
    kind = draws.choice(("out", "device", "fifo", "folder", "itself", "circle", "nowhere", "inside"))
    content = path.read_bytes()
    path.unlink()
    targets = {"out": outside / path.name, "device": "/dev/zero", "itself": path.name, "nowhere": "/nowhere/at/all"}
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(f"{path.name}.b")
        path.with_name(f"{path.name}.b").symlink_to(path.name)
    elif kind == "inside":  # allowed: the file is still the bundle's
        path.with_name("kept.bin").write_bytes(content)
        path.symlink_to("kept.bin")
    else:
        path.symlink_to(targets[kind])
    return kind
