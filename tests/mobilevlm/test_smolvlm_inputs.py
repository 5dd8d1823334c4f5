"""Pixels, prompts and token ids of SmolVLM: those of transformers' processors, built from the same small files."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, Idefics3Processor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.image import ImageSpec, load_image, pixel_values
from mobilevlm.images.tiles import grid_of, squares_of
from mobilevlm.text.byte_level import ByteLevelTokenizer
from mobilevlm.text.prompt import IMAGE, Conversation, template
from tests.conftest import ROOT
from tests.mobilevlm import smolvlm_files

PHOTO = load_image(ROOT / "assets" / "table.jpg")
SHAPES = (
    (PHOTO.width, PHOTO.height),
    (300, 200),
    (201, 333),
    (64, 64),
    (71, 70),
    (40, 33),
    (640, 90),
    (7, 500),
    (1, 1),
)
OPTIONS = {key: value for key, value in smolvlm_files.PROCESSOR.items() if not key.endswith("_type")}
OPTIONS.pop("processor_class")


@pytest.fixture
def width_first(monkeypatch):
    """Pillow's order when the checkpoints were trained: first the width, also where 13.0 begins with the height."""
    resize = Image.Image.resize

    def twice(self, size, resample=None, *args, **options):
        return resize(resize(self, (size[0], self.height), resample), size, resample)

    monkeypatch.setattr(Image.Image, "resize", twice)


@pytest.mark.parametrize("of", [Idefics3ImageProcessorPil, SmolVLMImageProcessorPil])
@pytest.mark.parametrize("tiles", [False, True])
def test_pixels_are_those_of_the_processor(tiles, of, width_first, tmp_path):
    smolvlm_files.smolvlm(tmp_path, tiles=tiles)
    spec, processor = ImageSpec.of(open_checkpoint(tmp_path).config), of(**OPTIONS | {"do_image_splitting": tiles})
    for shape in SHAPES:
        image = PHOTO.resize(shape, Image.Resampling.LANCZOS)
        said = processor(image, return_row_col_info=True)
        wanted, pixels = np.asarray(said["pixel_values"])[0], pixel_values(image, spec)
        assert grid_of(pixels) == (said["rows"][0][0], said["cols"][0][0])
        own = np.concatenate(squares_of(pixels))
        assert own.shape == wanted.shape
        # The same 8-bit pixels: a step of one is 1 / (255 * 0.5) = 0.0078, float rounding 1e-6.
        assert np.abs(own - wanted).max() < 1e-5, shape


WORDS = "what is on the table left of a red cup , how many? Count.\nAnswer with one word. (3) \u00e9 x=1".split(" ")
ODD = [
    *("  two  spaces ", "1234567890 3.14", "\u4f60\u597d\uff0c\u4e16\u754c", "a\u0301"),
    *("\U0001f600\U0001f468\u200d\U0001f469", "tab\tand\r\nline", "don't I'll", "\n\n", "x" * 200, " ", "end "),
]


def texts(count: int) -> list[str]:
    draws = random.Random(4)
    made = [" ".join(draws.choice(WORDS) for _ in range(draws.randint(1, 12))) for _ in range(count - len(ODD))]
    return ODD + made


@pytest.fixture(scope="module", params=[True, False], ids=["tags", "spelt tags"])
def processor(request, tmp_path_factory):
    """transformers' processor from the files alone, and the tokenizer."""
    directory = tmp_path_factory.mktemp("processor")
    smolvlm_files.write_tokenizer(directory, request.param)
    made = Idefics3Processor(
        Idefics3ImageProcessorPil(**OPTIONS),
        AutoTokenizer.from_pretrained(directory),
        image_seq_len=smolvlm_files.TOKENS,
        chat_template=smolvlm_files.CHAT_TEMPLATE,
    )
    return made, ByteLevelTokenizer(directory)


@pytest.mark.parametrize("num_images", [0, 1, 2, 3])
def test_token_ids_are_those_of_the_processor(num_images, processor):
    """50 questions each, a quarter of them after an answered one."""
    made, tokenizer = processor
    photo, image_id = PHOTO.resize((64, 48)), tokenizer.token_to_id("<image>")
    for number, text in enumerate(texts(50)):
        conversation = Conversation(template("smolvlm"))
        shown = [{"type": "image"}] * num_images
        messages = [{"role": "user", "content": [*shown, {"type": "text", "text": text}]}]
        conversation.ask(text, num_images)
        if number % 4 == 0:
            conversation.answer("It is there.")
            conversation.ask("Why?")
            messages.append({"role": "assistant", "content": [{"type": "text", "text": "It is there."}]})
            messages.append({"role": "user", "content": [{"type": "text", "text": "Why?"}]})
        prompt = made.apply_chat_template(messages, add_generation_prompt=True)
        wanted = made(text=prompt, images=[photo] * num_images or None, return_tensors="pt")["input_ids"][0]
        ids = tokenizer.encode(conversation.segments(), image_token_id=image_id)
        expanded = [one for index in ids for one in [index] * (smolvlm_files.TOKENS if index == image_id else 1)]
        assert torch.equal(torch.tensor(expanded), wanted), (text, expanded, wanted.tolist())


def test_tiled_prompts_are_those_of_the_processor(processor):
    made, tokenizer = processor
    image_id = tokenizer.token_to_id("<image>")
    grids = [(2, 4), (4, 1), (4, 4)]
    images = [PHOTO.resize(shape) for shape in ((120, 58), (20, 200), (90, 90))]
    for count in range(4):
        for text in texts(20):
            conversation = Conversation(template("smolvlm"))
            conversation.ask_content([*[IMAGE] * count, text])
            shown = [{"type": "image"}] * count
            messages = [{"role": "user", "content": [*shown, {"type": "text", "text": text}]}]
            prompt = made.apply_chat_template(messages, add_generation_prompt=True)
            options = dict(images=images[:count], do_image_splitting=True) if count else {}
            wanted = made(text=prompt, **options, return_tensors="pt")["input_ids"][0]
            ids = tokenizer.encode(conversation.segments(grids=grids), image_token_id=image_id)
            expanded = [one for index in ids for one in [index] * (smolvlm_files.TOKENS if index == image_id else 1)]
            assert torch.equal(torch.tensor(expanded), wanted), (text, expanded, wanted.tolist())


def test_texts_come_back_and_stream(processor):
    """Decoding equals the library's, whole and token by token."""
    from mobilevlm.runtime.text_stream import TextStream

    made, tokenizer = processor
    for text in texts(60):
        ids = tokenizer.encode([text])
        assert tokenizer.decode(ids) == made.tokenizer.decode(ids) == text
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
        stream = TextStream(tokenizer.decode)
        assert "".join([*map(stream.push, ids), stream.flush()]) == text.strip()


def test_text_that_spells_a_control_token_stays_text(processor):
    _, tokenizer = processor
    for name in ("<image>", "<end_of_utterance>", "<|im_start|>", "<row_1_col_1>"):
        ids = tokenizer.encode([name])
        assert tokenizer.decode(ids) == name and not tokenizer.special_ids & set(ids)
    assert tokenizer.encode(tokenizer.parse("a<image>b")).count(-200) == 1
