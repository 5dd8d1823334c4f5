"""Writes one stage as ONNX: nodes in memory, weights streamed to an external file as the nodes that use them are added.

Graphs are written node by node rather than traced, because a stage must hold exactly the operators its runtime is fast
on, and because no step may hold the model twice: a tensor is read, converted, appended to the file and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from mobilevlm.errors import UserError

from .initializers import Initializers
from .int8_error import Magnitudes
from .tensor_data import to_numpy

OPSET = 21
ORT_DOMAIN = "com.microsoft"


# Linear layer to the second moments (K, K) float32 of its input on the calibration data; None where there are none.
Moments = Callable[[str], torch.Tensor | None]


def no_moments(name: str) -> torch.Tensor | None:
    """Returns no `Moments`: a stage without calibration data."""
    return None


def no_magnitudes(name: str) -> Magnitudes | None:
    """Returns no magnitudes of a layer's input: a stage whose activations were not looked at."""
    return None


class LinearForm(Protocol):
    """Way to write the product of a linear layer into a graph."""

    def linear(self, graph: Graph, x: str, names: tuple[str, ...]) -> str:
        """Writes `x @ weight.T`; the bias is the caller's.

        Args:
            graph: receives nodes and weights.
            x: name of the input, (..., in).
            names: checkpoint layers without `.weight`, packed side by side into one output.

        Returns:
            Name of the output, (..., out).
        """


@runtime_checkable
class FactoredForm(Protocol):
    """A `LinearForm` that divides each row of its input by the row's largest value, and can leave it divided."""

    def linear(self, graph: Graph, x: str, names: tuple[str, ...], factors: str | None = None) -> str:
        """Writes `x @ weight.T` as `LinearForm.linear` does.

        Args:
            graph: receives nodes and weights.
            x: name of the input, (..., in).
            names: checkpoint layers without `.weight`, packed side by side into one output.
            factors: name of pending factors of the rows of `x`, (1, S, 1), from `up_to_factors`; None for none.
        """

    def up_to_factors(self, graph: Graph, x: str, names: tuple[str, ...]) -> tuple[str, str | None]:
        """Writes the product before its rows are rescaled.

        Args:
            graph: receives nodes and weights.
            x: name of the input, (..., in).
            names: checkpoint layers without `.weight`, packed side by side into one output.

        Returns:
            (y, factors): names of the output and of its rows' pending factors, (1, S, 1); None where none are pending.
        """


class Graph:
    """One stage being written.

    Args:
        name: of the stage.
        tensors: the checkpoint's weights.
        precision: how linear layers are stored and computed.
        weights_path: the external file, created here.
        on_bytes: called with the number of bytes after each weight, for progress.
        moments: of what a linear layer reads (see `decoder_activations.Observed`).
        opset: version of the standard operators.
        dtype: of what flows between operators, and of the constants it meets.
        magnitudes: of what a linear layer reads on the calibration data, None where they are not known.
    """

    def __init__(
        self,
        name: str,
        tensors: Mapping[str, torch.Tensor],
        precision: LinearForm,
        weights_path: Path,
        on_bytes: Callable[[int], object] = lambda count: None,
        moments: Moments = no_moments,
        opset: int = OPSET,
        dtype: type[np.generic] = np.float32,
        magnitudes: Callable[[str], Magnitudes | None] = no_magnitudes,
    ):
        self.name, self.tensors, self.precision = name, tensors, precision
        self.moments, self.magnitudes = moments, magnitudes
        self.dtype, self._opset = np.dtype(dtype), opset
        self._nodes: list[onnx.NodeProto] = []
        self._initializers = Initializers(weights_path, on_bytes)
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._once: dict[str, Any] = {}
        # A layer, the projector or the head to the tensor behind it: where the cost of quantising is looked at.
        self.blocks: dict[str, str] = {}
        # What no value of a tensor is below, where its operator says so: it need not be looked for.
        self.lowest: dict[str, float] = {}

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_: object) -> None:
        self._initializers.close()

    @property
    def kind(self) -> int:
        """ONNX's number of `dtype`."""
        return helper.np_dtype_to_tensor_dtype(self.dtype)

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        """Declares an input; strings are dynamic dimensions."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        """Declares an output; a node must have been given its name."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def op(self, op_type: str, *inputs: str, domain: str = "", out: str | None = None, **attributes: Any) -> str:
        """Adds a node with one output, called `out` or by a number, and returns the output's name."""
        return self.ops(op_type, inputs, [out or self.fresh(op_type)], domain, **attributes)[0]

    def ops(self, op_type: str, inputs: Any, outputs: list[str], domain: str = "", **attributes: Any) -> list[str]:
        """Adds a node with several outputs (an empty name skips one) and returns their names."""
        name = f"{len(self._nodes)}_{op_type}"
        self._nodes.append(helper.make_node(op_type, list(inputs), outputs, name=name, domain=domain, **attributes))
        return outputs

    def fresh(self, op_type: str) -> str:
        """Returns a new name for an output."""
        return f"{op_type}_{len(self._nodes)}"

    def once(self, name: str, write: Callable[[], Any]) -> Any:
        """Calls `write` the first time that it is asked for under this name, and returns what it returned then."""
        if name not in self._once:
            self._once[name] = write()
        return self._once[name]

    def constant(self, value: np.ndarray) -> str:
        """Adds a constant that is not a weight: shapes, axes; numbers and tables in the graph's dtype."""
        value = np.asarray(value)
        value = value.astype(self.dtype) if np.issubdtype(value.dtype, np.floating) else value
        return self.initializer(f"constant_{len(self._initializers)}", value)

    def weight(self, name: str) -> str:
        """Adds a checkpoint tensor as it is, in the graph's dtype: norms, biases, convolutions."""
        return self.initializer(name, self.narrowed(name, to_numpy(self.tensors[name])))

    def linear(self, x: str, *names: str, factors: str | None = None) -> str:
        """Adds `x @ weight.T + bias` in the stage's precision.

        Args:
            x: name of the input, (..., in) float32.
            names: checkpoint layers without `.weight`; several are packed side by side into one output.
            factors: pending factors of the rows of `x`, from `up_to_factors`; None for none.

        Raises:
            TypeError: there are factors, which the stage's precision has not left.
        """
        if factors is None:
            y = self.product(x, *names)
        elif isinstance(self.precision, FactoredForm):
            y = self.precision.linear(self, x, names, factors)
        else:
            raise TypeError(f"stage {self.name}: {self.precision} leaves no rows to be rescaled")
        return self.op("Add", y, self.bias(*names)) if f"{names[0]}.bias" in self.tensors else y

    def up_to_factors(self, x: str, *names: str) -> tuple[str, str | None]:
        """Adds a linear layer whose per-row rescale may stay pending, for a product behind it to apply.

        Args:
            x: name of the input, (..., in) float32.
            names: checkpoint layers without `.weight`; several are packed side by side into one output.

        Returns:
            (y, factors): `y` before its per-row rescale, and the names of the pending factors; None where they are
            applied already, as by every precision that does not divide rows.
        """
        if not isinstance(self.precision, FactoredForm) or f"{names[0]}.bias" in self.tensors:
            return self.linear(x, *names), None
        return self.precision.up_to_factors(self, x, names)

    def product(self, x: str, *names: str) -> str:
        """Adds `linear` without its bias."""
        return self.precision.linear(self, x, names)

    def bias(self, *names: str) -> str:
        """Adds the biases of layers, side by side."""
        name = f"{names[0]}.bias"
        bias = np.concatenate([to_numpy(self.tensors[f"{one}.bias"]) for one in names])
        return self.initializer(name, self.narrowed(name, bias))

    def layer_norm(self, x: str, name: str, epsilon: float) -> str:
        """Adds a LayerNormalization over the last axis, in float32 whatever flows: squares of float16 end at 255."""
        weights = [self._exact(f"{name}.{part}") for part in ("weight", "bias")]
        y = self.op("LayerNormalization", self.wide(x), *weights, axis=-1, epsilon=epsilon)
        return self.narrow(y)

    def wide(self, x: str) -> str:
        """Casts a value of the graph's dtype to float32."""
        return x if self.dtype == np.float32 else self.op("Cast", x, to=TensorProto.FLOAT)

    def narrow(self, x: str) -> str:
        """Casts a float32 value to the graph's dtype."""
        return x if self.dtype == np.float32 else self.op("Cast", x, to=self.kind)

    def _exact(self, name: str) -> str:
        return self.initializer(name, to_numpy(self.tensors[name]))

    def narrowed(self, name: str, value: np.ndarray) -> np.ndarray:
        """Casts a weight to the graph's dtype.

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
        """Adds a value under a name of its own; see `Initializers.add`."""
        return self._initializers.add(name, value)

    def scalar(self, name: str, value: np.generic) -> str:
        """Adds a number without dimensions; see `Initializers.add_scalar`."""
        return self._initializers.add_scalar(name, value)

    def int4(self, name: str, values: np.ndarray) -> str:
        """Adds int4 values; see `Initializers.add_int4`."""
        return self._initializers.add_int4(name, values)

    def save(self, path: Path) -> None:
        """Writes the ONNX file beside its weights."""
        initializers = self._initializers.flushed()
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, initializers)
        # Only what is used: TensorRT's parser wants to know every domain that is named.
        domains = {"": self._opset} | {node.domain: 1 for node in self._nodes if node.domain}
        opsets = [helper.make_opsetid(*entry) for entry in domains.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="mobilevlm")
        path.write_bytes(model.SerializeToString())
