"""Optimisation profiles, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from .names import Named

PLACES = ("min", "opt", "max")
HIGHEST_RANK = 8


class IOptimizationProfile(Named):
    """Shapes that a set of kernels is chosen for."""

    def __init__(self, trt: Any, logger: Any):
        self._trt, self._logger = trt, logger
        self._shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None:
        shapes = tuple(map(tuple, (min, opt, max)))
        for place, shape in zip(PLACES, shapes, strict=True):
            if len(shape) > HIGHEST_RANK:
                raise TypeError("set_shape(): incompatible function arguments: Dims have 8 dimensions at most")
            if any(size < 0 for size in shape):
                self._trt._log(self._logger, "ERROR", "IOptimizationProfile::setDimensions: a size is below 0")
                raise RuntimeError(f"Shape provided for {place} is inconsistent with other shapes.")
        self._shapes[input] = shapes

    def get_shape(self, input: str) -> list[tuple[int, ...]]:
        return list(self._shapes.get(input, ()))

    def __bool__(self) -> bool:
        return self._unordered() is None

    def _unordered(self) -> str | None:
        """An input whose sizes are not in order, which nothing says before the profile is added."""
        for name, (low, usual, high) in self._shapes.items():
            ranks = len({len(low), len(usual), len(high)})
            if ranks > 1 or any(not a <= b <= c for a, b, c in zip(low, usual, high, strict=True)):
                return name
        return None


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    """A tensor's dimensions: numbers, or names of dynamic ones."""
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in value.type.tensor_type.shape.dim]


def bind(shape: Sequence[int | str], actual: Sequence[int], names: dict[str, int]) -> str | None:
    """Compare a shape with a tensor's dimensions, noting what the named ones are; returns what does not fit."""
    if len(shape) != len(actual):
        return f"rank {len(actual)} instead of {len(shape)}"
    for known, here in zip(shape, actual, strict=True):
        if isinstance(known, int) and known != here:
            return f"Static dimension mismatch: {here} instead of {known}"
        if isinstance(known, str) and names.setdefault(known, here) != here:
            return f"dimension {known} is {names[known]} and {here}"
    return None


def profile_problems(model: onnx.ModelProto, profiles: Sequence[IOptimizationProfile]) -> list[str]:
    """Why a network cannot be built with these profiles."""
    dynamic = [value for value in model.graph.input if any(isinstance(dim, str) for dim in dims(value))]
    if dynamic and not profiles:
        return ["Network has dynamic or shape inputs, but no optimization profile has been defined."]
    found = []
    for index, profile in enumerate(profiles):
        if missing := [value.name for value in dynamic if value.name not in profile._shapes]:
            found.append(f"Dynamic input tensor {missing[0]} is missing dimensions in profile {index}")
            continue
        for place, what in enumerate(PLACES):
            if place and all(shapes[place] == shapes[place - 1] for shapes in profile._shapes.values()):
                continue
            names: dict[str, int] = {}
            for value in dynamic:
                shape = profile._shapes[value.name][place]
                if problem := bind(dims(value), shape, names):
                    found.append(f"{value.name}: k{what.upper()} of optimization profile {index}: {problem}")
            if not found:
                found += _constraint_problems(model, names, f"k{what.upper()} values for profile {index}")
    return found


def _constraint_problems(model: onnx.ModelProto, names: dict[str, int], where: str) -> list[str]:
    """Whether the shapes agree inside: `columns` with `past` + `sequence`, for one."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = names[dim.dim_param]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        return [f"{where} violate shape constraints: {str(error).splitlines()[0]}"]
    return []


def profile_as_json(profile: IOptimizationProfile) -> dict[str, Any]:
    """For a plan."""
    return {name: [list(shape) for shape in shapes] for name, shapes in profile._shapes.items()}
