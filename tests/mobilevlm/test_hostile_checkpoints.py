"""Checkpoints that mean harm, or lie about themselves: refused in one sentence before anything of them runs."""

import json
import os
import pickle
import shutil

import pytest
import torch

from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.checkpoint.pickles import check_plain
from mobilevlm.errors import UserError
from mobilevlm.model.assemble import assemble
from tests.conftest import ROOT, build_here, run
from tests.faults.checkpoints import make, run_cases


@pytest.fixture
def model(tmp_path):
    return make("whole", tmp_path / "whole")[0]


@pytest.fixture
def lora(tmp_path):
    return make("lora", tmp_path / "lora")[0]


def change(path, **changes):
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


class Evil:
    """What a malicious pickle holds: a call that leaves a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_a_malicious_pickle_is_refused_by_name(form, model, lora, tmp_path):
    """os.system in weights, an adapter and what a LoRA leaves beside it: the file is named, and nothing runs.

    Public: vllm-project/vllm pull request 12366, voicepaw/so-vits-svc-fork issue 193.
    """
    mark = tmp_path / "ran"

    def write(path):
        if form == "bare":
            path.write_bytes(pickle.dumps({"a": Evil(mark)}))
        else:
            torch.save({"a": Evil(mark)}, path, _use_new_zipfile_serialization=form == "zip")

    (model / "model.safetensors").unlink()
    write(model / "pytorch_model.bin")
    with pytest.raises(UserError, match="pytorch_model.bin asks for posix.system .* nothing was run"):
        build_here("--model", model, out=tmp_path / "out")
    for name in ("non_lora_trainables.bin", "adapter_model.bin"):
        write(lora / name)
        with pytest.raises(UserError, match=f"{name} asks for posix.system .* nothing was run"):
            open_checkpoint(lora, lora.parent / "base")
    write(tmp_path / "mm_projector.bin")
    with pytest.raises(UserError, match="mm_projector.bin asks for posix.system"):
        assemble(make("whole", tmp_path / "again")[0], projector=tmp_path / "mm_projector.bin")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_3.pth", "training_args.bin"):
        directory = tmp_path / name
        directory.mkdir()
        write(directory / name)
        with pytest.raises(UserError, match=f"{name} asks for posix.system .* nothing was run"):
            check_plain(directory)
    assert not mark.exists()
    assert pickle.loads(pickle.dumps(Evil(mark))) == 0 and mark.exists()  # it would have run


def test_code_beside_a_checkpoint_is_never_imported(model, tmp_path):
    """`trust_remote_code`: an auto_map, and modules of the names it gives, are left alone.

    Public: lm-sys/FastChat issue 3720, huggingface/sentence-transformers issue 3801.
    """
    mark = tmp_path / "ran"
    change(model / "config.json", auto_map={"AutoConfig": "modeling_evil.Config", "AutoModel": "modeling_evil.Model"})
    for name in ("modeling_evil.py", "tokenization_evil.py", "sitecustomize.py", "torch.py"):
        (model / name).write_text(f"open({str(mark)!r}, 'w')")
    change(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_evil.T", None]})
    done = run("-c", f"import mobilevlm; mobilevlm.MobileVLM.from_pretrained({str(model)!r})", cwd=ROOT)
    assert done.returncode == 0 and not mark.exists(), done.stderr


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 5, None, "a\0b", "x" * 5000, "\ud800"]
)
def test_shards_stay_in_their_directory(name, tmp_path):
    """Names in an index: no way out, no other type. Public: huggingface/transformers issue 47176."""
    model, _ = make("shards", tmp_path / "made")
    index = model / "model.safetensors.index.json"
    raw = json.loads(index.read_text())
    raw["weight_map"]["lm_head.weight"] = name
    index.write_text(json.dumps(raw))
    with pytest.raises(UserError, match="model.safetensors.index.json (lists .* no file name|is no shard index)"):
        open_checkpoint(model)


def test_shards_that_are_links(tmp_path):
    """A link out of the directory is refused; those of the hub's cache, snapshots to blobs, are followed.

    Public: local-inference-lab/b12x issue 171.
    """
    model, _ = make("shards", tmp_path / "made")
    shard = model / "model-00001-of-00002.safetensors"
    shard.rename(tmp_path / "elsewhere.safetensors")
    shard.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(UserError, match="00001-of-00002.safetensors is a link to .*elsewhere.safetensors, outside"):
        open_checkpoint(model)
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0a1b"
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    shutil.copytree(model, snapshot)
    shutil.copytree(model.parent / "vision_tower", snapshot / "vision_tower")
    for path in sorted(path for path in snapshot.iterdir() if path.is_file()):
        shutil.move(path.resolve() if path.is_symlink() else path, blobs / path.name)
        path.unlink(missing_ok=True)
        path.symlink_to(f"../../blobs/{path.name}")
    open_checkpoint(snapshot)


@pytest.mark.parametrize(
    "field, value, said",
    [
        ("dtype", "F13", "has the type 'F13'"),
        ("dtype", ["F32"], "has the type"),
        ("shape", [768, -64], "has shape .768, -64."),
        ("shape", [10**12, 10**12], "needs 4,000"),
        ("shape", "64", "has shape 64"),
        ("data_offsets", [0, 10**15], "needs .* bytes, its place has"),
        ("data_offsets", [4, 196612], "begins at byte|needs"),
        ("data_offsets", [0], "has shape"),
    ],
)
def test_headers_that_lie(field, value, said, model):
    """safetensors: overlapping and absent places, unknown types, sizes that no disk has.

    Public: ztxz16/fastllm issue 712, leejet/stable-diffusion.cpp pull request 1754.
    """
    path = model / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["lm_head.weight"][field] = value
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(UserError, match=rf"model.safetensors.*{said}"):
        open_checkpoint(model)


def test_a_header_without_an_end(model):
    """safetensors: a length of exabytes, and a sparse file whose header would take all memory.

    Public: ztxz16/fastllm issue 712, run-ai/runai-model-streamer pull request 121.
    """
    path = model / "model.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(UserError, match="model.safetensors cannot be read as weights .its header says 4,611"):
        open_checkpoint(model)
    path.write_bytes((2**30).to_bytes(8, "little"))
    os.truncate(path, 2**31)
    with pytest.raises(UserError, match="its header has 1,073,741,824 bytes, at most"):
        open_checkpoint(model)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"num_hidden_layers": 1000}, "num_hidden_layers is 1,000, but the weights hold 3 layers"),
        ({"intermediate_size": 2**20}, "hidden_size and intermediate_size make a matrix of 1048576 x 64"),
        ({"num_attention_heads": 2**20}, "num_attention_heads 1048576"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps (is )?nan"),
        ({"rope_theta": -1.0}, "rope_theta (is )?-1"),
        ({"eos_token_id": 10**9}, "eos_token_id (is )?1000000000"),
        ({"mm_projector_type": "mlp99999999x_gelu"}, "mm_projector_type"),
        ({"mm_vision_tower": "a\0b"}, "which no path can be"),
        ({"mm_vision_tower": "x" * 300}, "which no path can be"),
    ],
)
def test_sizes_beyond_the_weights_are_refused_before_anything_is_made(changes, said, model):
    """config.json of another model, or of nobody's: no minutes, no gigabytes.

    Public: maderix/ANE pull request 45, ollama/ollama issue 17042.
    """
    change(model / "config.json", **changes)
    with pytest.raises(UserError, match=said):
        open_checkpoint(model)


def test_mutated_checkpoints_open_or_are_refused(monkeypatch):
    """The fuzzer's fast slice: `python -m tests.faults.checkpoints` makes more.

    Public: google/oss-fuzz pull request 12274.
    """
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert set(run_cases(seed=0, count=60)) <= {"opened", "refused"}


def test_a_message_does_not_steer_the_terminal(model):
    """What a file holds is repeated without its control characters."""
    path = model / "special_tokens_map.json"
    path.write_text(json.dumps({"bos_token": {"content": "<s>", "lstrip": "\x1b[2J\r"}}))
    with pytest.raises(UserError, match="lstrip is .*; true or false is needed") as refused:
        open_checkpoint(model)
    assert str(refused.value).isprintable()
    assert str(UserError("a \x1b[2J\x9b\x07b\nc \N{RIGHT-TO-LEFT OVERRIDE}")) == "a \ufffd[2J\ufffd\ufffdb\nc \ufffd"
    name = "\N{IDEOGRAPHIC SPACE}\N{NO-BREAK SPACE}\N{MAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}.png"
    assert str(UserError(name)) == name  # as people name their files
