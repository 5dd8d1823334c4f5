"""The double's ONNX parser, and the network that it fills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from .names import Named
from .onnx_rules import problems
from .profiles import dims


class ITensor(Named):
    """An input of a network."""

    def __init__(self, value: onnx.ValueInfoProto):
        self._value = value

    @property
    def name(self) -> str:
        return self._value.name

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(-1 if isinstance(dim, str) else dim for dim in dims(self._value))


class INetworkDefinition(Named):
    """What the parser fills."""

    def __init__(self, trt: Any, logger: Any, flags: int):
        self._trt, self._logger, self._flags = trt, logger, flags
        self._model: onnx.ModelProto | None = None
        self._skeleton: onnx.ModelProto | None = None  # without weights, which shapes do not depend on
        self._path = ""

    @property
    def num_inputs(self) -> int:
        return 0 if self._model is None else len(self._model.graph.input)

    def get_input(self, index: int) -> ITensor | None:
        if not 0 <= index < self.num_inputs:
            self._trt._log(self._logger, "ERROR", f"INetworkDefinition::getInput: Invalid index: {index}")
            return None
        return self._trt._class("ITensor")(self._model.graph.input[index])


class ParserError(Named):
    """One of a parser's errors."""

    def __init__(self, text: str):
        self._text = text

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return self._text.split()[1].rstrip(":") if self._text.startswith("node ") else ""


class OnnxParser(Named):
    """Reads ONNX files into a network."""

    def __init__(self, network: INetworkDefinition, logger: Any):
        self._network, self._logger, self._errors = network, logger, []

    def parse_from_file(self, model: str) -> bool:
        path = Path(model)
        self._network._path = str(path)
        try:
            skeleton = onnx.load(path, load_external_data=False)
        except (OSError, DecodeError) as error:
            return self._refuse([f"Input file cannot be found, or holds no ONNX model: {path} ({error})"])
        return self._take(skeleton, lambda: onnx.load(path))

    def parse(self, model: bytes, path: str | None = None) -> bool:
        try:
            skeleton = onnx.load_model_from_string(model)
        except DecodeError:
            return self._refuse(["Failed to parse the ONNX model."])
        return self._take(skeleton, lambda: skeleton)

    def _take(self, skeleton: onnx.ModelProto, whole: Any) -> bool:
        if self._network._model is not None:
            return self._refuse(["Parse was called with a non-empty network definition"])
        if not skeleton.ByteSize():  # an empty file is a model of nothing
            return True
        found = problems(skeleton, self._version)
        if found:
            return self._refuse(found)
        self._network._skeleton, self._network._model = skeleton, whole()
        return True

    def _refuse(self, found: list[str]) -> bool:
        self._errors = [self._network._trt._class("ParserError")(text) for text in found]
        for text in found:
            self._network._trt._log(self._logger, "ERROR", f"[ModelImporter] {text}")
        return False

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]
