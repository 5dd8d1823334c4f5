"""Values in the JSON that Polygraphy's command line reads, by numpy alone: a board needs no Polygraphy to write it.

An array is a `.npy` file in base64; an object says its class. `--load-inputs` takes a list with the inputs of each
call, `--load-outputs` a run: names of who ran, each with the outputs of its calls. The newest version of Polygraphy
that was read for this is 0.53.6; `tests/runtime/test_polygraphy.py` has the installed one read these files.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

CLASS = "polygraphy_class"


def write_inputs(path: Path, inputs: Mapping[str, np.ndarray]) -> None:
    """Writes the inputs of one call, for `--load-inputs`.

    Args:
        path: of the file.
        inputs: by name.
    """
    _write(path, [{name: _array(value) for name, value in inputs.items()}])


def write_outputs(path: Path, outputs: Mapping[str, np.ndarray], ran: str) -> None:
    """Writes the outputs of one call, for `--load-outputs`.

    Args:
        path: of the file.
        outputs: by name.
        ran: name of what computed them, for people.
    """
    values = {name: _object("LazyArray", values=_array(value)) for name, value in outputs.items()}
    call = _object("IterationResult", outputs=values, runtime=None, runner_name=ran)
    _write(path, _object("RunResults", lst=[[ran, [call]]]))


def _object(name: str, **fields: Any) -> dict[str, Any]:
    return fields | {CLASS: name}


def _array(value: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(value), allow_pickle=False)
    return _object("ndarray", array=base64.b64encode(file.getbuffer()).decode())


def _write(path: Path, content: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.write("\n")
