"""Checkpoints as other people's programs write them: read with the right values, or refused in one sentence.

The kinds are those that reports of LLaVA, MobileVLM, llama.cpp, transformers and DeepSpeed tell of; a test's docstring
names its kind, `docs/inputs.md` lists them.
"""

import codecs
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mobilevlm import MobileVLM
from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.errors import UserError
from mobilevlm.model.assemble import assemble
from tests.conftest import ROOT, build_here, run
from tests.faults.checkpoints import make

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:5f70bf18\nsize 3348\n"
MERGE = ROOT / "train" / "merge_lora.py"


@pytest.fixture
def model(tmp_path):
    return make("whole", tmp_path / "whole")[0]


@pytest.fixture
def lora(tmp_path):
    return make("lora", tmp_path / "lora")[0]


def change(path, **changes):
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def as_bin(model, change):
    """Save the weights as the pickle that `change` makes of them."""
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    torch.save(change(tensors), model / "pytorch_model.bin")
    return tensors


def same_weights(model, tensors):
    ours = open_checkpoint(model).tensors
    assert set(ours) == set(tensors) and all(torch.equal(ours[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("kind", ["whole", "shards", "pickle", "lora"])
def test_git_lfs_pointers_and_web_pages_are_named(kind, tmp_path):
    """Clones without git-lfs, and pages saved in place of a gated file: every file that is read.

    Public: microsoft/OmniParser issue 34 (git-lfs), AndreasFischer1985/code-snippets issue 1 (a page).
    """
    model, base = make(kind, tmp_path / "made")
    for path in sorted(path for path in model.iterdir() if path.suffix in (".json", ".bin", ".safetensors", ".model")):
        if path.name == "generation_config.json":  # nothing in it is used
            continue
        content = path.read_bytes()
        for text, said in ((POINTER, "is a git-lfs pointer.*git lfs pull"), ("<!DOCTYPE html>", "is a web page")):
            path.write_text(text)
            with pytest.raises(UserError, match=f"{path.name} .*{said}"):
                open_checkpoint(model, base)
        path.write_bytes(content)
    open_checkpoint(model, base)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("kind", ["whole", "shards", "lora"])
def test_json_as_windows_editors_save_it(kind, encoding, tmp_path):
    """A mark, UTF-16, CRLF, in every JSON and tower file. Public: zhayujie/CowAgent issue 2257."""
    model, base = make(kind, tmp_path / "made")
    for path in (tmp_path / "made").rglob("*.json"):
        path.write_bytes(path.read_text().replace("\n", "\r\n").encode(encoding))
        assert path.read_bytes().startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    open_checkpoint(model, base)


WRAPPED = {
    "DDP": lambda tensors: {f"module.{name}": value for name, value in tensors.items()},
    "DDP twice": lambda tensors: {f"module.module.{name}": value for name, value in tensors.items()},
    "torch.compile": lambda tensors: {f"_orig_mod.{name}": value for name, value in tensors.items()},
    "FSDP": lambda tensors: {
        name.replace("layers.0.", "layers.0._fsdp_wrapped_module.", 1): value for name, value in tensors.items()
    },
    "an attribute": lambda tensors: {f"model.{name}": value for name, value in tensors.items()},
    "bare LLaMA": lambda tensors: {name.removeprefix("model."): value for name, value in tensors.items()},
    "Lightning": lambda tensors: {"state_dict": tensors, "epoch": 3, "hyper_parameters": {"a": 1}},
    "DeepSpeed": lambda tensors: {"module": {f"module.{n}": v for n, v in tensors.items()}, "dp_world_size": 2},
    "a loop": lambda tensors: {"model": tensors, "step": torch.tensor(1)},
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_wrapped_names_are_unwrapped(wrapper, model):
    """The same weights.

    Public: NVIDIA/apex issue 647, karpathy/nanoGPT issue 325, facebookresearch/detectron2 issue 470.
    """
    tensors = as_bin(model, WRAPPED[wrapper])
    same_weights(model, tensors)


def test_what_is_no_state_dict_is_said(model):
    """A whole object, a list, a number among tensors. Public: amyxlu/cheap-proteins issue 4."""
    as_bin(model, lambda tensors: {"epoch": 3, "loss": 0.5})
    with pytest.raises(UserError, match="pytorch_model.bin holds something other .*'epoch' is int"):
        open_checkpoint(model)
    torch.save([1, 2], model / "pytorch_model.bin")
    with pytest.raises(UserError, match="pytorch_model.bin holds no dictionary of tensors, but list"):
        open_checkpoint(model)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "model.mm_projector.",
        "mm_projector.",
        "module.model.mm_projector.",
        "base_model.model.model.mm_projector.",
        "module.",
        "model.base_model.model.model.mm_projector.",
    ],
)
def test_projector_files_of_every_fork(prefix, model, tmp_path):
    """`mm_projector.bin` with forks' prefixes or none. Public: haotian-liu/LLaVA issue 608."""
    part = "model.mm_projector."
    own = {n.removeprefix(part): v + 1 for n, v in load_file(model / "model.safetensors").items() if n.startswith(part)}
    torch.save({prefix + name: value for name, value in own.items()}, tmp_path / "mm_projector.bin")
    state = assemble(model, projector=tmp_path / "mm_projector.bin").state_dict()
    assert own and all(torch.equal(state[part + name], value.float()) for name, value in own.items())


@pytest.mark.parametrize(
    "file, said",
    [
        ("mm_projector.bin", "a projector alone .mm_projector.bin.: give it to finetune.py as --projector"),
        ("adapter_model.safetensors", "a LoRA .adapter_model.safetensors. without its adapter_config.json"),
        ("zero_to_fp32.py", "DeepSpeed's shards: put them together with the zero_to_fp32.py"),
        ("checkpoint-500/model.safetensors", "a Trainer's run, give one of its checkpoints .checkpoint-500."),
        ("model-q4.gguf", "a model of llama.cpp .model-q4.gguf., which is not read"),
        ("weights.safetensors", "weights.safetensors, which is none of the names"),
    ],
)
def test_directories_without_weights_say_what_they_are(file, said, model):
    """Projectors alone, runs, shards, GGUF: what to give. Public: haotian-liu/LLaVA issues 205 and 337."""
    (model / "model.safetensors").unlink()
    (model / file).parent.mkdir(exist_ok=True)
    (model / file).write_text("x")
    with pytest.raises(UserError, match=f"holds no weights: one of model.safetensors.*; this is {said}"):
        open_checkpoint(model)


def test_a_trainers_checkpoint_with_its_optimizer_opens(model):
    """`checkpoint-500` of a Trainer, all of it. Public: lm-sys/FastChat issue 443, haotian-liu/LLaVA issue 1029."""
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "trainer_state.json"):
        (model / name).write_bytes(b"not read")
    (model / "global_step500").mkdir()
    open_checkpoint(model)


@pytest.mark.parametrize("name", ["/home/someone/vision_tower", "C:\\models\\vision_tower", "~/vision_tower"])
def test_a_tower_path_of_another_machine_is_found_beside(name, model):
    """`mm_vision_tower` is a path of the machine that trained. Public: yuezih/less-is-more issue 8."""
    change(model / "config.json", mm_vision_tower=name)
    assert open_checkpoint(model).tower_dir == model.parent / "vision_tower"


def test_a_tied_head_saved_twice_is_one(model):
    """A copy is dropped. Public: ml-explore/mlx-lm pull request 1298, NVIDIA/TensorRT-LLM issue 3324."""
    tensors = load_file(model / "model.safetensors")
    change(model / "config.json", tie_word_embeddings=True)
    with pytest.raises(UserError, match="tie_word_embeddings, but the weights hold lm_head.weight .* differs from"):
        open_checkpoint(model)
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, model / "model.safetensors")
    tied = MobileVLM.from_pretrained(model)
    assert torch.equal(tied.lm_head.weight, tensors["model.embed_tokens.weight"].float())
    save_file({n: v for n, v in tensors.items() if n != "lm_head.weight"}, model / "model.safetensors")
    change(model / "config.json", tie_word_embeddings=False)
    with pytest.raises(UserError, match='missing: lm_head.weight .*"tie_word_embeddings": true'):
        MobileVLM.from_pretrained(model)


def test_a_padding_token_without_a_row_gets_one(model):
    """`[PAD]` as token V of V rows. Public: hf-lin/ChatMusician issue 23, OpenNMT/CTranslate2 issue 1415."""
    (model / "added_tokens.json").write_text('{"[PAD]": 768}')
    checkpoint = open_checkpoint(model)
    rows = checkpoint.tensors["model.embed_tokens.weight"]
    assert checkpoint.config.vocab_size == len(rows) == 769 and checkpoint.tokenizer().token_to_id("[PAD]") == 768
    torch.testing.assert_close(rows[768], rows[:768].float().mean(0).to(rows.dtype))


def test_more_rows_than_vocab_size_says(model):
    """Rows V+1 and an old `vocab_size`: the weights are right, and every old row is where it was.

    Public: ggml-org/llama.cpp issue 3442, h2oai/h2o-llmstudio issue 297.
    """
    tensors = load_file(model / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = torch.cat([tensors[name], tensors[name][:1]])
    save_file(tensors, model / "model.safetensors")
    assert open_checkpoint(model).config.vocab_size == 769
    model_ = MobileVLM.from_pretrained(model)
    assert torch.equal(model_.lm_head.weight[:768], tensors["lm_head.weight"][:768].float())


@pytest.mark.parametrize(
    ("model_type", "said"),
    [
        ("llava", "config.json lacks hidden_size, vocab_size"),
        ("llava_llama", "config.json lacks hidden_size, vocab_size"),
        ("mobile_vlm", "model_type 'mobile_vlm'; mobilevlm, llama, llava, llava_llama, .* are supported"),
    ],
)
def test_other_model_types_say_what_is_missing(model_type, said, model):
    """`model_type` of neighbours and old spellings. Public: NVlabs/VILA issue 135, NVIDIA/TensorRT-LLM issue 2158."""
    change(model / "config.json", model_type=model_type, hidden_size=..., vocab_size=...)
    with pytest.raises(UserError, match=said):
        open_checkpoint(model)


def test_a_lora_without_its_projector_is_refused_everywhere(lora, tmp_path):
    """LoRA without `non_lora_trainables.bin`: merge, build and eval, which used the base's projector without a word.

    Public: zjysteven/lmms-finetune issue 53, haotian-liu/LLaVA issue 922.
    """
    (lora / "non_lora_trainables.bin").unlink()
    base = lora.parent / "base"
    done = run(MERGE, base, lora, tmp_path / "merged")
    assert done.returncode == 2 and "lacks non_lora_trainables.bin" in done.stderr, done.stderr
    assert '"freeze_mm_mlp_adapter": true' in done.stderr and done.stderr.count("\n") == 1
    with pytest.raises(UserError, match="lacks non_lora_trainables.bin"):
        build_here("--model", lora, "--base", base, out=tmp_path / "bundle")
    from mobilevlm.eval.engine import PyTorchEngine

    with pytest.raises(UserError, match="lacks non_lora_trainables.bin"):
        PyTorchEngine(str(lora), "v1", base=str(base))
    change(lora / "config.json", freeze_mm_mlp_adapter=True)
    with pytest.raises(UserError, match="missing: model.mm_projector"):  # this base is a language model alone
        MobileVLM.from_pretrained(lora, base=base)


def test_a_lora_whose_base_moved_is_evaluated_with_base(lora, tmp_path):
    """`eval/run.py --model LORA --base DIR` is there. Public: microsoft/onnxruntime-genai pull request 955."""
    moved = lora.parent / "base"
    moved = moved.rename(tmp_path / "moved")
    from mobilevlm.eval import run as evaluation
    from mobilevlm.eval.engine import PyTorchEngine

    assert evaluation.parser().parse_args(["--model", str(lora), "--base", str(moved)]).base == str(moved)

    with pytest.raises(UserError, match="--base DIR"):
        PyTorchEngine(str(lora), "v1")
    engine = PyTorchEngine(str(lora), "v1", base=str(moved))
    assert engine.identity["base"] == str(moved.resolve()) and isinstance(engine.answer([("Hi", None)], 2)[0], str)


def test_zero3s_empty_tensors_are_named(lora, model):
    """Shape (0,). Public: huggingface/peft issues 2450 and 2500, deepspeedai/DeepSpeed issue 4295."""
    for path in (lora / "adapter_model.bin", lora / "non_lora_trainables.bin"):
        state = torch.load(path, weights_only=True)
        torch.save({name: torch.zeros(0) for name in state}, path)
        with pytest.raises(UserError, match=f"{path.name} holds {len(state)} empty tensors, .*ZeRO-3.*zero_to_fp32"):
            open_checkpoint(lora, lora.parent / "base")
        torch.save(state, path)
    as_bin(model, lambda tensors: {name: torch.zeros(0) for name in tensors})
    with pytest.raises(UserError, match="empty tensors.*ZeRO-3"):
        open_checkpoint(model)


def test_loras_that_contradict_themselves(lora):
    """Another `r` than the factors', NaN, a base that is a LoRA, a checkpoint-N without the whole model's config.

    Public: ymcui/Chinese-LLaMA-Alpaca issue 302 (`r`), haotian-liu/LLaVA issue 922 (no config).
    """
    base, adapter = lora.parent / "base", lora / "adapter_config.json"
    for changes, said in (
        ({"r": 16}, "has r 16, but the factors of .* have rank 8"),
        ({"lora_alpha": float("nan")}, "lora_alpha nan"),
        ({"lora_alpha": 10**12}, "lora_alpha 1000000000000"),
        ({"r": True}, "r True"),
        ({"base_model_name_or_path": ["a"]}, "base_model_name_or_path .'a'.; a name"),
    ):
        before = adapter.read_text()
        change(adapter, **changes)
        with pytest.raises(UserError, match=said):
            open_checkpoint(lora, None if "base_model_name_or_path" in changes else base)
        adapter.write_text(before)
    with pytest.raises(UserError, match="is a LoRA itself: merge it first"):
        open_checkpoint(lora, lora)
    (lora / "config.json").unlink()
    with pytest.raises(UserError, match="lacks config.json, the whole model's.*checkpoint-N"):
        open_checkpoint(lora, base)
