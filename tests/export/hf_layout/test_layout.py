"""`--layout hf`: what transformers reads there and ONNX Runtime computes with it, as this project and PyTorch do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoProcessor, AutoTokenizer, LlavaConfig

from mobilevlm import MobileVLM
from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.errors import UserError
from mobilevlm.export import build_engines
from mobilevlm.image import ImageSpec, load_image, preprocess
from mobilevlm.runtime import Session
from mobilevlm.text.prompt import IMAGE, IMAGE_TOKEN_INDEX, TEMPLATES, Conversation
from tests.conftest import DEMO, GOLDEN, ROOT, build_here
from tests.export.hf_layout.loop import Loop, asking
from tests.export.test_architectures import MODEL, write_checkpoint

IMAGES = ROOT / "export" / "calibration_data"
SHAPES = ROOT / "assets" / "shapes.png"
QUESTIONS = [
    (SHAPES, "What color is the circle?"),
    (SHAPES, "How many shapes are there?"),
    (IMAGES / "00.jpg", "Can you read the number?"),
    (IMAGES / "06.jpg", "What is in the picture?"),
    (IMAGES / "10.jpg", "What is in the picture?"),
    (IMAGES / "18.jpg", "What is in the picture?"),
]
SUFFIXES = {"fp32": "", "fp16": "_fp16", "q8": "_quantized", "q4": "_q4"}
REFERENCE = json.loads((GOLDEN / "tokenizer_reference.json").read_text())


@pytest.fixture(scope="module")
def said(demo_fp32) -> list[str]:
    """Greedy answers of this project's float32 bundle."""
    with Session(demo_fp32) as session:
        return ["".join(session.chat(question, image=image)) for image, question in QUESTIONS]


def text_only(question: str) -> list[dict]:
    return asking(question, has_image=False)


# --- text


def test_ids_are_ours(demo_hf):
    """200 texts and more, among them what only bytes have, spaces at both ends, and control tokens' names in parts."""
    ours, theirs = open_checkpoint(DEMO).tokenizer(), AutoTokenizer.from_pretrained(demo_hf)
    words = [text for text in REFERENCE["texts"] if not any(name in text for name in ("<s>", "</s>", "<unk>", "<im"))]
    captions = [path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))]
    lines = [line for text in captions for line in text.splitlines() if "<image>" not in line and "</s>" not in line]
    texts = [*words, *lines[:: max(1, len(lines) // 200)]]
    assert len(texts) > 200
    for text in texts:
        assert [ours.bos_id, *theirs(text).input_ids] == ours.encode([text]), text


@pytest.mark.parametrize("images", [0, 1, 2, 3])
def test_prompts_are_ours(demo_hf, images):
    """The chat template gives the ids of conversation mode v1, with earlier turns and images between the words."""
    checkpoint, theirs = open_checkpoint(DEMO), AutoTokenizer.from_pretrained(demo_hf)
    token, ours = theirs.convert_tokens_to_ids("<image>"), checkpoint.tokenizer()
    assert token == checkpoint.config.vocab_size == len(ours)
    asked = Conversation(TEMPLATES["v1"])
    asked.ask("  What is this?\n", images)
    messages = [
        {"role": "user", "content": [{"type": "image"}] * images + [{"type": "text", "text": "  What is this?\n"}]}
    ]
    for turn, content in enumerate(([IMAGE, "And this? ", IMAGE, "naïve 北京"][: 2 * images + 2], ["Why"])):
        content = content if images else ["Why, 3.14?"]
        asked.answer(f"It is {turn}.")
        asked.ask_content(content)
        parts = [{"type": "image"} if part == IMAGE else {"type": "text", "text": part} for part in content]
        messages += [{"role": "assistant", "content": f"It is {turn}."}, {"role": "user", "content": parts}]
        wanted = ours.encode(asked.segments(), image_token_id=token)
        got = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert got == wanted
        text = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert theirs(text).input_ids == wanted  # one begin of sentence on both ways


def test_empty_turns_and_system_messages(demo_hf):
    theirs, ours = AutoTokenizer.from_pretrained(demo_hf), open_checkpoint(DEMO).tokenizer()
    asked = Conversation(replace(TEMPLATES["v1"], system=TEMPLATES["v1"].system + " Be brief."))
    asked.ask("")
    asked.answer("")
    asked.ask("So?")
    messages = [
        {"role": role, "content": text}
        for role, text in (("system", "Be brief."), ("user", ""), ("assistant", ""), ("user", "So?"))
    ]
    got = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert got == ours.encode(asked.segments())


# --- images


@pytest.mark.parametrize("path", [SHAPES, ROOT / "assets" / "table.jpg", IMAGES / "06.jpg", IMAGES / "18.jpg"])
def test_processor_gives_our_pixels_and_tokens(demo_hf, path):
    checkpoint, image = open_checkpoint(DEMO), load_image(path)
    processor = AutoProcessor.from_pretrained(demo_hf)
    text = processor.apply_chat_template(asking("What is this?"), add_generation_prompt=True)
    inputs = processor(images=image, text=text, return_tensors="np")
    assert np.array_equal(inputs["pixel_values"], preprocess(image, ImageSpec.of(checkpoint.config)))
    conversation = Conversation(TEMPLATES["v1"])
    conversation.ask("What is this?", 1)
    ids = checkpoint.tokenizer().encode(conversation.segments())
    place = ids.index(IMAGE_TOKEN_INDEX)
    assert inputs["input_ids"][0].tolist() == [*ids[:place], *[1024] * 144, *ids[place + 1 :]]


# --- graphs


@pytest.mark.parametrize("dtype", SUFFIXES)
def test_graphs_have_the_hubs_names_and_shapes(demo_hf, dtype):
    suffix, heads = SUFFIXES[dtype], 4
    past = [f"past_key_values.{layer}.{part}" for layer in range(6) for part in ("key", "value")]
    cache = ["batch_size", heads, "past_sequence_length", 64]
    grown = ["batch_size", heads, "total_sequence_length", 64]
    rows, names = ["batch_size", "sequence_length"], [name.replace("past_key_values", "present") for name in past]
    wanted = {
        "vision_encoder": ({"pixel_values": [1, 3, 144, 144]}, {"image_features": [1, 144, 256]}),
        "embed_tokens": ({"input_ids": rows}, {"inputs_embeds": [*rows, 256]}),
        "decoder_model_merged": (
            {
                "inputs_embeds": [*rows, 256],
                "attention_mask": ["batch_size", "total_sequence_length"],
                "position_ids": rows,
                **dict.fromkeys(past, cache),
            },
            {"logits": [*rows, 1024], **dict.fromkeys(names, grown)},
        ),
    }
    for part, (inputs, outputs) in wanted.items():
        path = demo_hf / "onnx" / f"{part}{suffix}.onnx"
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(str(path), full_check=dtype in ("fp32", "fp16"))
        assert path.with_name(f"{path.name}_data").stat().st_size > 1e5
        for shapes, values in ((inputs, model.graph.input), (outputs, model.graph.output)):
            found = {one.name: one.type.tensor_type.shape.dim for one in values}
            read = {name: [dim.dim_param or dim.dim_value for dim in dims] for name, dims in found.items()}
            assert list(read.items()) == list(shapes.items())  # logits are the first output
        if dtype in ("fp32", "fp16"):
            assert {one.domain for one in model.opset_import} == {""}


def test_logits_of_every_position_are_pytorchs(demo_hf):
    loop = Loop(demo_hf)
    inputs = loop.inputs(asking(QUESTIONS[0][1]), load_image(SHAPES))
    rows = loop.embedded(inputs["input_ids"], inputs["pixel_values"])
    empty = dict.fromkeys(
        (f"past_key_values.{layer}.{part}" for layer in range(6) for part in ("key", "value")),
        np.zeros((1, 4, 0, 64), np.float32),
    )
    positions = np.arange(rows.shape[1])[None]
    feed = {"inputs_embeds": rows, "attention_mask": inputs["attention_mask"], "position_ids": positions, **empty}
    got = loop.decoder.run(["logits"], feed)[0]
    model = MobileVLM.from_pretrained(DEMO)
    with torch.inference_mode():
        wanted = model(inputs_embeds=torch.from_numpy(rows).to(model.dtype), use_cache=False).logits
    assert np.abs(got - wanted.float().numpy()).max() < 2e-4


@pytest.mark.parametrize("dtype", SUFFIXES)
def test_onnx_runtime_alone_says_what_a_bundle_says(demo_hf, said, dtype):
    """Greedy text; rounding may choose otherwise: of 72 answers q8 has 4 others and q4 15."""
    loop = Loop(demo_hf, SUFFIXES[dtype])
    got = [loop.say(question, load_image(image)) for image, question in QUESTIONS]
    differ = sum(one != other for one, other in zip(got, said, strict=True))
    assert differ <= {"fp32": 0, "fp16": 0, "q8": 1, "q4": 3}[dtype], list(zip(got, said, strict=True))
    assert got[:2] == said[:2]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_answers_as_each_alone(demo_hf, side):
    """Prompts of different lengths; only padding on the left can be decoded further, both have the same last logits."""
    loop = Loop(demo_hf)
    asked = [(image, f"{question} {'Please. ' * number}") for number, (image, question) in enumerate(QUESTIONS[:3])]
    alone = [loop.inputs(asking(question), load_image(image)) for image, question in asked]
    loop.processor.tokenizer.padding_side = side
    texts = [loop.processor.apply_chat_template(asking(question), add_generation_prompt=True) for _, question in asked]
    images = [load_image(image) for image, _ in asked]
    batch = dict(loop.processor(images=images, text=texts, padding=True, return_tensors="np"))
    assert len({int(row.sum()) for row in batch["attention_mask"]}) == 3
    if side == "left":
        assert loop.generate(batch, 8) == [loop.generate(one, 8)[0] for one in alone]
        return
    rows, mask = loop.embedded(batch["input_ids"], batch["pixel_values"]), batch["attention_mask"]
    empty = {
        f"past_key_values.{n}.{part}": np.zeros((3, 4, 0, 64), np.float32)
        for n in range(6)
        for part in ("key", "value")
    }
    feed = {"inputs_embeds": rows, "attention_mask": mask, "position_ids": np.maximum(mask.cumsum(-1) - 1, 0), **empty}
    logits = loop.decoder.run(["logits"], feed)[0]
    chosen = [int(logits[row, int(mask[row].sum()) - 1].argmax()) for row in range(3)]
    assert chosen == [loop.generate(one, 1)[0][0] for one in alone]


# --- other models


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({"num_key_value_heads": 2, "tie_word_embeddings": True, "image_aspect_ratio": "square"}, 144),
        ({"mm_projector_type": "linear", "mm_vision_select_feature": "cls_patch"}, 65),
        ({"mm_use_im_start_end": True, "mm_use_im_patch_token": True, "vocab_size": 832}, 144),
    ],
)
def test_other_architectures(tmp_path, changes, tokens):
    """Grouped heads, a class token, control tokens, a padded vocabulary: verified when built, and asked."""
    write_checkpoint(replace(MODEL, **changes), tmp_path / "model")
    out = build_here("--model", tmp_path / "model", "--layout", "hf", out=tmp_path / "out")
    checkpoint = open_checkpoint(tmp_path / "model")
    loop, image = Loop(out), load_image(SHAPES)
    assert isinstance(loop.config, LlavaConfig)
    inputs = loop.inputs(asking("What is this?"), image)
    token = loop.config.image_token_index
    assert token == len(checkpoint.tokenizer()) and int((inputs["input_ids"] == token).sum()) == tokens
    assert np.array_equal(inputs["pixel_values"], preprocess(image, ImageSpec.of(checkpoint.config)))
    conversation = Conversation(TEMPLATES["v1"])
    conversation.ask("What is this?", 1)
    ids = checkpoint.tokenizer().encode(conversation.segments(checkpoint.config.mm_use_im_start_end), token)
    assert [one for one in inputs["input_ids"][0] if one != token] == [one for one in ids if one != token]
    model = MobileVLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    rows = torch.from_numpy(loop.embedded(inputs["input_ids"], inputs["pixel_values"]))
    chosen = []
    with torch.inference_mode():
        for _ in range(4):
            chosen.append(int(model(inputs_embeds=rows, use_cache=False).logits[0, -1].argmax()))
            rows = torch.cat([rows, model.model.embed_tokens(torch.tensor([chosen[-1:]]))], 1)
    assert loop.generate(inputs, 4)[0] == chosen[: len(loop.generate(inputs, 4)[0])]


# --- refusals


def refused(*words: str | Path, out: Path) -> str:
    """What a command line is refused with, in this process."""
    arguments = build_engines.parser().parse_args([*map(str, words), "--out", str(out)])
    with pytest.raises(UserError) as error:
        build_engines.build(arguments)
    return str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target", "orin", "--layout", "hf"), "--layout hf goes with --target host, and this is --target orin"),
        (("--target", "host", "--layout", "hf", "--precision", "int8_amx"), "it takes fp32, fp16, int8, int4"),
        (("--target", "host", "--layout", "hf", "--precision", "decoder=int4"), "it takes fp32, fp16, int8, int4"),
    ],
)
def test_refusals(tmp_path, words, said):
    assert said in refused("--model", DEMO, *words, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_text_only_model_is_refused(tmp_path):
    write_checkpoint(replace(MODEL, vision=None, mm_vision_tower=None), tmp_path / "model")
    words = ("--model", tmp_path / "model", "--target", "host", "--layout", "hf")
    assert "takes no images, and --layout hf is for models that do" in refused(*words, out=tmp_path / "out")


def test_only_its_own_directory_is_replaced(demo_fp32, tmp_path):
    """With --overwrite; a bundle, and what somebody put in, stay."""
    write_checkpoint(MODEL, tmp_path / "model")
    words = ("--model", tmp_path / "model", "--target", "host", "--layout", "hf", "--precision", "fp16")
    out = build_here(*words, out=tmp_path / "out", precision="fp16")
    assert json.loads((out / "config.json").read_text())["transformers.js_config"]["dtype"] == "fp16"
    assert "add --overwrite" in refused(*words, out=out)
    (out / "onnx" / "notes.txt").write_text("mine")
    assert "not the layout's (onnx/notes.txt)" in refused(*words, "--overwrite", out=out)
    assert "no directory of --layout hf" in refused(*words, "--overwrite", out=demo_fp32)
    (out / "onnx" / "notes.txt").unlink()
    build_here(*words, "--overwrite", out=out, precision="fp16")
    assert {path.name for path in (out / "onnx").glob("*.onnx")} == {
        "decoder_model_merged_fp16.onnx",
        "embed_tokens_fp16.onnx",
        "vision_encoder_fp16.onnx",
    }
