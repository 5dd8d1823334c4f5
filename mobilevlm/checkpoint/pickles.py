"""Opens files that `torch.save` wrote as data: nothing that a pickle names is imported or run."""

from __future__ import annotations

import pickletools
import re
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from .checkpoint_error import CheckpointError

# What training programs put around a model's tensors: Lightning, DeepSpeed, and loops of people's own.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_REFUSED = re.compile(r"GLOBAL ([A-Za-z_][\w.]*)")  # in the text of torch's error
SCANNED_BYTES, PICKLES = 2**20, 5  # the form before PyTorch 1.6 is five pickles and the values


def load_plain(path: Path) -> Any:
    """Content of a file that `torch.save` wrote, on the CPU and mapped where its form allows it.

    Raises:
        CheckpointError: it holds more than data, naming what it would have run; or it is damaged.
    """
    try:
        return _load(path)
    # The unpickler runs a stranger's opcodes: every exception of Python's can come out of it.
    except Exception as error:
        text = str(error)
        refused = _REFUSED.search(text)
        asked = [one for one in _asked_for(path) if one.split(".")[0] not in ("torch", "collections")]
        name = refused.group(1) if refused else next(iter(asked), None)
        if name:
            raise CheckpointError(
                f"{path} asks for {name} while it is unpickled, which can run a program: it was refused, and nothing "
                "was run. Weights need nothing but tensors: get the file as .safetensors, or from a source you trust"
            ) from None
        if type(error).__module__ in ("_pickle", "pickle"):  # their text explains weights_only at length
            raise CheckpointError(f"{path} is no plain weights file: copy or download it again") from None
        reason = text.splitlines()[0] if text else type(error).__name__
        raise CheckpointError(f"{path} cannot be read as weights ({reason}): copy or download it again") from None


def _asked_for(path: Path) -> list[str]:
    """What bare pickles, one after the other, would import, read from their opcodes; empty for other files."""
    with path.open("rb") as file:
        start = BytesIO(file.read(SCANNED_BYTES))
    names: list[str] = []
    try:
        for _ in range(PICKLES):
            strings: list[str] = []
            for code, argument, _ in pickletools.genops(start):
                names += [str(argument).replace(" ", ".")] if code.name == "GLOBAL" else []
                names += [".".join(strings[-2:])] if code.name == "STACK_GLOBAL" else []
                strings += [argument] if isinstance(argument, str) else []
    except Exception:  # where no pickle is or the last one ends: a stranger's bytes again
        pass
    return names


def _load(path: Path) -> Any:
    with warnings.catch_warnings():  # about protocols of pickle, which the error says better
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used with files saved with" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # the format before PyTorch 1.6


def tensors_in(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """State dict that a file holds, taken out of what a training program put around it.

    Args:
        content: of the file.
        path: for the message.

    Raises:
        CheckpointError: it holds none, or a tensor is not stored as numbers on a CPU.
    """
    state = content
    for _ in WRAPPERS:  # DeepSpeed's `module` may hold a `state_dict`; nothing nests deeper than there are names
        inner = [state[key] for key in WRAPPERS if key in state] if isinstance(state, dict) else []
        if not inner or not isinstance(inner[0], dict):
            break
        state = inner[0]
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds no dictionary of tensors, but {_what(content)}")
    odd = [name for name, value in state.items() if not isinstance(name, str) or not isinstance(value, torch.Tensor)]
    if odd:
        raise CheckpointError(
            f"{path} holds something other than a dictionary of tensors: {odd[0]!r} is {_what(state[odd[0]])}"
        )
    for name, value in state.items():
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise CheckpointError(
                f"{path} holds {name} as a {value.layout} tensor on {value.device}: save it dense, on the CPU"
            )
    return state


def _what(value: Any) -> str:
    if isinstance(value, dict):
        names = ", ".join(map(str, list(value)[:5]))
        return f"a dictionary with {names}" if value else "an empty dictionary"
    return f"{type(value).__name__}"


# What Trainer keeps in a checkpoint beside the weights, and whose classes may be named in there.
STATE_FILES = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin")
STATE_MODULES = ("torch", "numpy", "transformers", "accelerate", "enum", "collections", "mobilevlm")


def check_plain(directory: Path) -> None:
    """Refuse a Trainer's checkpoint whose state would run something when it is read; reads names, not values.

    Args:
        directory: the checkpoint.

    Raises:
        CheckpointError: naming the file, and what it asks for.
    """
    for path in (path for pattern in STATE_FILES for path in sorted(directory.glob(pattern))):
        try:
            named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except Exception as error:  # the scan runs a stranger's opcodes, as in `load_plain`
            named = _asked_for(path)
            if not named:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                raise CheckpointError(
                    f"{path} cannot be read ({reason}): remove {directory} to go on before it"
                ) from None
        if odd := [name for name in named if name.split(".")[0] not in STATE_MODULES]:
            raise CheckpointError(
                f"{path} asks for {odd[0]} while it is unpickled, which can run a program: it was refused, and nothing "
                f"was run. If you trust the run, remove {directory} to go on before it"
            )
