"""Writes one stage as ONNX: nodes in memory, weights streamed to an external file as the nodes that use them are added.

Graphs are written node by node rather than traced, because a stage must hold exactly the operators its runtime is fast
on, and because no step may hold the model twice: a tensor is read, converted, appended to the file and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from mobilevlm.checkpoint.tensors import CheckpointError
from mobilevlm.errors import UserError

from ..precisions import Precision
from .int8_error import Magnitudes

OPSET = 21
ORT_DOMAIN = "com.microsoft"
# Offsets that every platform can map: the allocation granularity of Windows, a multiple of all page sizes.
MAP_ALIGNMENT = 65536
INLINE_BYTES = 256


def no_moments(name: str) -> None:
    """What a stage without calibration data knows of what a layer reads."""


def no_magnitudes(name: str) -> None:
    """How large what a layer reads is, where nobody looked."""


class Graph:
    """One stage being written.

    Args:
        name: of the stage.
        tensors: the checkpoint's weights.
        precision: how linear layers are stored and computed.
        weights_path: the external file, created here.
        on_bytes: called with the number of bytes after each weight, for progress.
        moments: what a linear layer reads on the calibration data (see `observed.Observed`), None without any.
        opset: version of the standard operators.
        dtype: of what flows between operators, and of the constants it meets.
        magnitudes: of what a linear layer reads on the calibration data, None where they are not known.
    """

    def __init__(
        self,
        name: str,
        tensors: Mapping[str, torch.Tensor],
        precision: Precision,
        weights_path: Path,
        on_bytes: Callable[[int], object] = lambda count: None,
        moments: Callable[[str], torch.Tensor | None] = no_moments,
        opset: int = OPSET,
        dtype: type[np.generic] = np.float32,
        magnitudes: Callable[[str], Magnitudes | None] = no_magnitudes,
    ):
        self.name, self.tensors, self.precision = name, tensors, precision
        self.weights_path, self.on_bytes, self.moments = weights_path, on_bytes, moments
        self.dtype, self.magnitudes, self._opset = np.dtype(dtype), magnitudes, opset
        self._file = weights_path.open("wb")
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._once: dict[str, Any] = {}
        # A layer, the projector or the head to the tensor behind it: where what coding costs is looked at.
        self.blocks: dict[str, str] = {}
        # What no value of a tensor is below, where its operator says so: it need not be looked for.
        self.lowest: dict[str, float] = {}

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def kind(self) -> int:
        """ONNX's number for `dtype`."""
        return helper.np_dtype_to_tensor_dtype(self.dtype)

    def input(self, name: str, dtype: int, shape: list[int | str]) -> str:
        """Declare an input; strings are dynamic dimensions."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: int, shape: list[int | str]) -> str:
        """Declare an output; a node must have been given its name."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def op(self, op_type: str, *inputs: str, domain: str = "", out: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, called `out` or by a number, and return the output's name."""
        return self.ops(op_type, inputs, [out or self.fresh(op_type)], domain, **attributes)[0]

    def ops(self, op_type: str, inputs: Any, outputs: list[str], domain: str = "", **attributes: Any) -> list[str]:
        """Add a node with several outputs (an empty name skips one) and return their names."""
        name = f"{len(self._nodes)}_{op_type}"
        self._nodes.append(helper.make_node(op_type, list(inputs), outputs, name=name, domain=domain, **attributes))
        return outputs

    def fresh(self, op_type: str) -> str:
        """A name for an output."""
        return f"{op_type}_{len(self._nodes)}"

    def once(self, name: str, write: Callable[[], Any]) -> Any:
        """What `write` adds and returns, the first time it is asked for under this name; the same again after that."""
        if name not in self._once:
            self._once[name] = write()
        return self._once[name]

    def constant(self, value: np.ndarray) -> str:
        """Add a constant that is not a weight: shapes, axes; numbers and tables in the graph's dtype."""
        value = np.asarray(value)
        value = value.astype(self.dtype) if np.issubdtype(value.dtype, np.floating) else value
        return self.initializer(f"constant_{len(self._initializers)}", value)

    def weight(self, name: str) -> str:
        """Add a checkpoint tensor as it is, in the graph's dtype: norms, biases, convolutions."""
        return self.initializer(name, self.narrowed(name, to_numpy(self.tensors[name])))

    def linear(self, x: str, *names: str, factors: str | None = None) -> str:
        """`x @ weight.T + bias` in the stage's precision.

        Args:
            x: (..., in) float32.
            names: checkpoint layers without `.weight`; several are packed side by side into one output.
            factors: what the rows of `x` are still to be multiplied by, from `up_to_factors`; None for nothing.
        """
        y = self.product(x, *names) if factors is None else self.precision.linear(self, x, names, factors)
        return self.op("Add", y, self.bias(*names)) if f"{names[0]}.bias" in self.tensors else y

    def up_to_factors(self, x: str, *names: str) -> tuple[str, str | None]:
        """`linear`, and what its rows are still to be multiplied by: None where a precision multiplies them anyhow.

        One that divides rows by their largest value has no need of it before.
        """
        if not hasattr(self.precision, "up_to_factors") or f"{names[0]}.bias" in self.tensors:
            return self.linear(x, *names), None
        return self.precision.up_to_factors(self, x, names)

    def product(self, x: str, *names: str) -> str:
        """`linear` without its bias."""
        return self.precision.linear(self, x, names)

    def bias(self, *names: str) -> str:
        """Add the biases of layers, side by side."""
        name = f"{names[0]}.bias"
        bias = np.concatenate([to_numpy(self.tensors[f"{one}.bias"]) for one in names])
        return self.initializer(name, self.narrowed(name, bias))

    def layer_norm(self, x: str, name: str, epsilon: float) -> str:
        """LayerNormalization over the last axis, in float32 whatever flows: squares of float16 end at 255."""
        weights = [self._exact(f"{name}.{part}") for part in ("weight", "bias")]
        y = self.op("LayerNormalization", self.wide(x), *weights, axis=-1, epsilon=epsilon)
        return self.narrow(y)

    def wide(self, x: str) -> str:
        """A value of the graph's dtype in float32."""
        return x if self.dtype == np.float32 else self.op("Cast", x, to=TensorProto.FLOAT)

    def narrow(self, x: str) -> str:
        """A float32 value in the graph's dtype."""
        return x if self.dtype == np.float32 else self.op("Cast", x, to=self.kind)

    def _exact(self, name: str) -> str:
        return self.initializer(name, to_numpy(self.tensors[name]))

    def narrowed(self, name: str, value: np.ndarray) -> np.ndarray:
        """A weight in the graph's dtype.

        Raises:
            UserError: it has no room for it.
        """
        largest, most = float(np.abs(value).max()), float(np.finfo(self.dtype).max)
        if largest > most:
            raise UserError(
                f"stage {self.name}: {name} holds {largest:g}, {self.dtype.name} ends at {most:g}: build this stage "
                f"with --precision {self.name.split('.')[0]}=fp32"
            )
        return value.astype(self.dtype)

    def initializer(self, name: str, value: np.ndarray) -> str:
        """Add a value under a name of its own: inline when it is small, else in the external file."""
        value = np.ascontiguousarray(value)
        dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor = TensorProto(name=name, data_type=dtype, dims=value.shape)
        if value.nbytes < INLINE_BYTES:
            tensor.raw_data = value.tobytes()
        else:
            self._append(tensor, value)
        self._initializers.append(tensor)
        return name

    def scalar(self, name: str, value: np.generic) -> str:
        """Add a number that has no dimensions; `initializer` gives it one."""
        self.initializer(name, np.asarray(value))
        del self._initializers[-1].dims[:]
        return name

    def int4(self, name: str, codes: np.ndarray) -> str:
        """Add int8 values from -8 to 7 as int4, two to a byte, in the external file; an even number of them."""
        nibbles = codes.reshape(-1, 2).astype(np.uint8) & 15
        tensor = TensorProto(name=name, data_type=TensorProto.INT4, dims=codes.shape)
        self._append(tensor, nibbles[:, 0] | nibbles[:, 1] << 4)
        self._initializers.append(tensor)
        return name

    def _append(self, tensor: TensorProto, value: np.ndarray) -> None:
        append_external(self._file, self.weights_path.name, tensor, value)
        self.on_bytes(value.nbytes)

    def save(self, path: Path) -> None:
        """Write the ONNX file beside its weights."""
        self._file.flush()
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, self._initializers)
        # Only what is used: TensorRT's parser wants to know every domain that is named.
        domains = {"": self._opset} | {node.domain: 1 for node in self._nodes if node.domain}
        opsets = [helper.make_opsetid(*entry) for entry in domains.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="mobilevlm")
        path.write_bytes(model.SerializeToString())


def append_external(file: BinaryIO, location: str, tensor: TensorProto, value: np.ndarray) -> int:
    """Write a contiguous value behind a file's others, and say in its initializer where; returns its offset."""
    alignment = MAP_ALIGNMENT if value.nbytes >= MAP_ALIGNMENT else 64
    file.write(b"\0" * (-file.tell() % alignment))
    offset = file.tell()
    file.write(value.data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, entry in {"location": location, "offset": offset, "length": value.nbytes}.items():
        tensor.external_data.add(key=key, value=str(entry))
    return offset


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A float32 copy or view (numpy has no bfloat16).

    Raises:
        CheckpointError: the tensor holds something other than floating-point numbers.
    """
    if not tensor.is_floating_point():
        raise CheckpointError(f"the checkpoint holds weights of type {tensor.dtype}; floating-point ones are needed")
    return tensor.detach().float().numpy()
