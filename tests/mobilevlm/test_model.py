"""The PyTorch model against the original implementation, from every kind of file it is published in."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mobilevlm import MobileVLM
from mobilevlm.checkpoint.tensors import open_directory
from mobilevlm.model.answer import answer
from mobilevlm.model.weights import as_dtype
from tests.conftest import GOLDEN, GOLDEN_MODELS, load_golden

LOGITS_ATOL = 2e-4


def logits_of(model, ids, images=None):
    with torch.no_grad():
        images = None if images is None else torch.from_numpy(images)
        return model(torch.from_numpy(ids), images=images).logits.numpy()


@pytest.mark.parametrize("kind", ["ckpt_bin", "ckpt_safetensors"])
@pytest.mark.parametrize("name", GOLDEN_MODELS)
def test_every_step_matches_the_original(name, kind):
    golden = load_golden(name)
    arrays = golden.arrays
    model = MobileVLM.from_pretrained(golden.directory / kind)
    pixel_values = torch.from_numpy(arrays["pixel_values"])
    with torch.no_grad():
        features = model.model.vision_tower(pixel_values)
        image_embeds = model.model.mm_projector(features)
    np.testing.assert_allclose(features, arrays["clip_hidden_last_minus2_patch"], atol=1e-4)
    np.testing.assert_allclose(image_embeds, arrays["projector_output"], atol=1e-4)
    logits = logits_of(model, arrays["input_ids"], arrays["pixel_values"])
    np.testing.assert_allclose(logits, arrays["logits"], atol=LOGITS_ATOL)
    text_only = logits_of(model, arrays["text_only_input_ids"])
    np.testing.assert_allclose(text_only, arrays["text_only_logits"], atol=LOGITS_ATOL)
    ids = torch.from_numpy(arrays["input_ids"])
    output = model.generate(
        ids, images=pixel_values, max_new_tokens=16, do_sample=False, output_scores=True, return_dict_in_generate=True
    )
    assert output.sequences[0].tolist() == arrays["greedy_tokens"].tolist()
    np.testing.assert_allclose(torch.cat(output.scores), arrays["greedy_step_scores"], atol=LOGITS_ATOL)


def test_chat_says_what_the_original_said(golden, tmp_path):
    from PIL import Image

    image = Image.fromarray(golden.arrays["image_uint8"])
    model = MobileVLM.from_pretrained(golden.checkpoint)
    text = answer(model, golden.meta["user_prompt"], image, max_new_tokens=16)
    assert text == golden.meta["greedy_text"].strip()
    image.save(tmp_path / "picture.png")
    assert model.chat(golden.meta["user_prompt"], tmp_path / "picture.png", max_new_tokens=16) == text


def test_spliced_embeddings_match_the_original(golden):
    model = MobileVLM.from_pretrained(golden.checkpoint)
    seen = {}
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(embeds=kwargs["inputs_embeds"]), with_kwargs=True
    )
    logits_of(model, golden.arrays["input_ids"], golden.arrays["pixel_values"])
    np.testing.assert_allclose(seen["embeds"].detach(), golden.arrays["inputs_embeds"], atol=1e-4)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_sharded_checkpoints_load(kind, tmp_path):
    golden = load_golden("v2_ldpnetv2_336")
    directory = tmp_path / "sharded"
    shutil.copytree(golden.checkpoint, directory, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = dict(open_directory(golden.checkpoint))
    names = sorted(tensors)
    stem = "model" if kind == "safetensors" else "pytorch_model"
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"{stem}-{number:05}-of-00002.{kind}"
        shard_tensors = {name: tensors[name] for name in part}
        save_file(shard_tensors, directory / shard) if kind == "safetensors" else torch.save(
            shard_tensors, directory / shard
        )
        weight_map |= dict.fromkeys(part, shard)
    (directory / f"{stem}.{kind}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    shutil.copytree(golden.directory / "vision_tower", tmp_path / "vision_tower")
    model = MobileVLM.from_pretrained(directory)
    logits = logits_of(model, golden.arrays["input_ids"], golden.arrays["pixel_values"])
    np.testing.assert_allclose(logits, golden.arrays["logits"], atol=LOGITS_ATOL)


def test_save_pretrained_writes_the_published_layout(golden, tmp_path):
    model = MobileVLM.from_pretrained(golden.checkpoint)
    model.save_pretrained(tmp_path / "saved")
    before, after = open_directory(golden.checkpoint), open_directory(tmp_path / "saved")
    assert set(before) == set(after)
    published = json.loads((golden.checkpoint / "config.json").read_text())
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    ours = {"_name_or_path", "transformers_version"}
    assert {key: value for key, value in published.items() if key not in ours} == saved
    logits = logits_of(
        MobileVLM.from_pretrained(tmp_path / "saved"), golden.arrays["input_ids"], golden.arrays["pixel_values"]
    )
    np.testing.assert_allclose(logits, golden.arrays["logits"], atol=LOGITS_ATOL)


def test_sharded_and_merged_models_save_and_load_again(tmp_path):
    """A LoRA, merged at load, saved in shards: an ordinary published checkpoint with the golden's logits."""
    lora = GOLDEN / "lora_v1"
    model = MobileVLM.from_pretrained(lora / "lora", base=lora / "base")
    model.save_pretrained(tmp_path / "saved", max_shard_size="400KB")
    assert len(list((tmp_path / "saved").glob("model-*.safetensors"))) > 1
    golden = np.load(lora / "golden.npz")
    logits = logits_of(MobileVLM.from_pretrained(tmp_path / "saved"), golden["input_ids"], golden["pixel_values"])
    np.testing.assert_allclose(logits, golden["logits"], atol=LOGITS_ATOL)


@pytest.mark.parametrize("dtype", ["fp16", "bfloat16"])
def test_half_precision_stays_near(golden, dtype):
    model = MobileVLM.from_pretrained(golden.checkpoint, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {as_dtype(dtype)} != {torch.float32}
    images = torch.from_numpy(golden.arrays["pixel_values"]).to(model.dtype)
    with torch.no_grad():
        logits = model(torch.from_numpy(golden.arrays["input_ids"]), images=images).logits.float().numpy()
    allowed = {"fp16": 0.01, "bfloat16": 0.1}[dtype] * np.abs(golden.arrays["logits"]).max()
    assert np.abs(logits - golden.arrays["logits"]).max() < allowed


def test_several_images_take_their_places_in_order(golden):
    """Two images in one prompt give what their embeddings, put in by hand, give."""
    model = MobileVLM.from_pretrained(golden.checkpoint)
    first = torch.from_numpy(golden.arrays["pixel_values"])
    images = torch.cat([first, first.flip(3)])
    ids = torch.tensor([[1, -200, 13, -200, 20, 30]])
    with torch.no_grad():
        together = model(ids, images=images).logits
        blocks, embed = model.encode_images(images), model.model.embed_tokens
        parts = [embed(ids[0, :1]), blocks[0], embed(ids[0, 2:3]), blocks[1], embed(ids[0, 4:])]
        by_hand = model(inputs_embeds=torch.cat(parts)[None]).logits
        swapped = model(ids, images=images.flip(0)).logits
    torch.testing.assert_close(together, by_hand)
    assert (together - swapped).abs().max() > 1e-3
    with pytest.raises(ValueError, match="2 image tokens, but 1 images"):
        model(ids, images=first)


def test_beams_and_sampling_reach_generate(golden):
    """Beam search finds a likelier answer than greedy; a seed decides what is sampled."""
    model = MobileVLM.from_pretrained(golden.checkpoint)
    ids, images = torch.from_numpy(golden.arrays["input_ids"]), torch.from_numpy(golden.arrays["pixel_values"])

    def log_likelihood(answer_ids):
        embeds = torch.from_numpy(golden.arrays["inputs_embeds"])
        with torch.no_grad():
            both = torch.cat([embeds, model.model.embed_tokens(answer_ids[None])], 1)
            scores = model(inputs_embeds=both).logits[0, embeds.shape[1] - 1 : -1].log_softmax(-1)
        return scores.gather(1, answer_ids[:, None]).sum().item()

    options = {"images": images, "max_new_tokens": 6}
    greedy = model.generate(ids, do_sample=False, **options)[0]
    beams = model.generate(ids, do_sample=False, num_beams=4, **options)[0]
    assert log_likelihood(beams[:6]) >= log_likelihood(greedy[:6]) - 1e-4

    def sampled(seed):
        torch.manual_seed(seed)
        return answer(model, "What is it?", None, temperature=2.0, top_p=0.95, max_new_tokens=12)

    assert sampled(1) == sampled(1)
    assert len({sampled(seed) for seed in range(4)}) > 1


def test_dtypes_by_name():
    assert [as_dtype(name) for name in ("fp32", "float16", "torch.bfloat16", torch.float16)] == [
        torch.float32, torch.float16, torch.bfloat16, torch.float16,
    ]  # fmt: skip
    for name in ("int8", "nonsense"):
        with pytest.raises(ValueError, match=f"dtype is '{name}'; it can be fp32, fp16 or bf16"):
            as_dtype(name)


def test_generate_takes_what_transformers_takes(golden):
    model = MobileVLM.from_pretrained(golden.checkpoint)
    ids, images = torch.from_numpy(golden.arrays["input_ids"]), torch.from_numpy(golden.arrays["pixel_values"])
    options = dict(images=images, max_new_tokens=4, do_sample=False)
    expected = golden.arrays["greedy_tokens"][:4].tolist()
    assert model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)[0].tolist() == expected
    with pytest.raises(ValueError, match="image tokens, but no images"):
        model.generate(ids, max_new_tokens=4)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 5.0}, "top_p is 5"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"prompt": "hi " * 1500}, "the context holds 2048: [0-9]+ too many"),
    ],
)
def test_chat_refuses_what_cannot_be(golden, options, message):
    model = MobileVLM.from_pretrained(golden.checkpoint)
    with pytest.raises(ValueError, match=message):
        model.chat(**({"prompt": "hi"} | options))


@pytest.mark.parametrize("bits", ["load_8bit", "load_4bit"])
def test_bitsandbytes_without_a_gpu_says_what_to_do(golden, bits):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="needs a CUDA GPU.*build_engines.py"):
        MobileVLM.from_pretrained(golden.checkpoint, **{bits: True})
