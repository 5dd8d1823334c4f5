"""A checkpoint's files are mapped, and what was read of them leaves memory again."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mobilevlm.checkpoint.tensors import RELEASE_BYTES, Tensors, open_directory
from tests.conftest import run
from tests.runtime.test_memory import MIB, resident

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system tells only on Linux")

COUNT, ROWS, COLUMNS = 32, 2048, 4096  # 512 MiB of bfloat16
SLACK = 48 * MIB  # one tensor in float32, and what the allocator keeps


@pytest.fixture(scope="module", params=["model.safetensors", "pytorch_model.bin"])
def checkpoint(request, tmp_path_factory) -> Path:
    """A directory of a few hundred MB that holds a link, as the hub's does: the system names the file behind it."""
    directory = tmp_path_factory.mktemp("checkpoint")
    values = {f"layers.{n:02}.weight": torch.full((ROWS, COLUMNS), n + 1.0, dtype=torch.bfloat16) for n in range(COUNT)}
    target = directory / "blob"
    save_file(values, target) if request.param.endswith("safetensors") else torch.save(values, target)
    (directory / request.param).symlink_to(target)
    yield directory
    target.unlink()  # pytest keeps the directories of three runs


def growth(tensors: Tensors) -> int:
    """Most bytes that reading all tensors twice, one after the other, took beside what was there."""
    before, most = resident(), 0
    for _ in range(2):
        for number, name in enumerate(tensors):
            assert tensors[name].float().mean() == number + 1
            most = max(most, resident() - before)
    return most


def grown(checkpoint: Path, release_bytes: int = RELEASE_BYTES) -> int:
    """`growth` in a process of its own: in one that has run other tests, their freed memory is taken and given back."""
    code = (
        "import sys; from pathlib import Path; from mobilevlm.checkpoint import tensors; "
        "from tests.mobilevlm.test_tensors_memory import growth; tensors.RELEASE_BYTES = int(sys.argv[2]); "
        "print(growth(tensors.open_directory(Path(sys.argv[1]))))"
    )
    done = run("-c", code, checkpoint, release_bytes)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_reading_all_tensors_takes_a_part_of_the_file(checkpoint):
    """It was all of the file: 3.3 GB of a 1.7B model, until the build was done."""
    total = COUNT * ROWS * COLUMNS * 2
    assert grown(checkpoint) < RELEASE_BYTES + 16 * MIB + SLACK < 0.5 * total
    assert grown(checkpoint, 2 * total) > 0.9 * total  # the measure sees what is not given back


def test_a_tensor_that_is_held_keeps_its_values(checkpoint):
    """Also those that were written to it: they are nowhere else, and a second reader gets the file's."""
    tensors = open_directory(checkpoint)
    held, changed = tensors["layers.03.weight"], tensors["layers.05.weight"]
    changed[7] = -1
    for name in tensors:
        tensors[name].float().sum()
    assert (held == 4).all() and (changed[7] == -1).all() and (changed[8:] == 6).all()
    assert (open_directory(checkpoint)["layers.05.weight"] == 6).all()
