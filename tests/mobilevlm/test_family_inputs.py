"""Pixels and token ids of other families: those of transformers' processors, built from the same small files."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlamaTokenizerFast, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.image import ImageSpec, load_image, preprocess
from mobilevlm.text.prompt import Conversation, template
from tests.conftest import ROOT
from tests.mobilevlm import neighbours

PHOTO = load_image(ROOT / "assets" / "table.jpg")
SHAPES = ((PHOTO.width, PHOTO.height), (300, 200), (201, 333), (56, 56), (71, 70), (40, 33), (640, 90))


def images() -> list[Image.Image]:
    """A photo in several shapes, wide, tall, square, larger and smaller than the tower's square."""
    return [PHOTO.resize(shape, Image.Resampling.LANCZOS) for shape in SHAPES]


def expand2square(image: Image.Image, mean: list[float]) -> Image.Image:
    """The authors' padding, as their code describes it."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(int(value * 255) for value in mean))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def written(kind: str, directory):
    """A checkpoint of a layout, and the function that makes its images into pixels by transformers."""
    clip = CLIPImageProcessorPil(**{k: v for k, v in neighbours.CLIP_PROCESSOR.items() if k != "image_processor_type"})
    siglip = SiglipImageProcessorPil(
        **{k: v for k, v in neighbours.SIGLIP_PROCESSOR.items() if k != "image_processor_type"}
    )
    if kind == "llava hf":
        neighbours.llava_hf(directory)
        return clip
    if kind == "llava hf, padded":
        neighbours.llava_hf(directory)
        changes = {"image_processor_type": "LlavaImageProcessor", "do_pad": True}
        neighbours.write_json(directory / "preprocessor_config.json", neighbours.CLIP_PROCESSOR | changes)
        return LlavaImageProcessorPil(
            **{k: v for k, v in (neighbours.CLIP_PROCESSOR | changes).items() if k != "image_processor_type"}
        )
    if kind == "llava hf, processor_config.json":
        neighbours.llava_hf(directory)
        (directory / "preprocessor_config.json").unlink()
        neighbours.write_json(directory / "processor_config.json", {"image_processor": neighbours.CLIP_PROCESSOR})
        return clip
    if kind == "llava hf, SigLIP":
        neighbours.llava_hf(directory, neighbours.SIGLIP_CONFIG, vision_feature_select_strategy="full")
        return siglip
    if kind == "vila":
        neighbours.vila(directory)
        return siglip
    if kind == "tinyllava":
        neighbours.tinyllava(directory)
        return lambda image: siglip(expand2square(image, [0.5] * 3))
    neighbours.llava_original(directory, neighbours.llava_hf(directory.parent / "hf"))
    return lambda image: clip(expand2square(image, clip.image_mean))


KINDS = ("llava hf", "llava hf, padded", "llava hf, processor_config.json", "llava hf, SigLIP", "vila", "tinyllava")


WHOLE = ("llava hf, SigLIP", "vila")  # resized to a square, whatever the shape


@pytest.mark.parametrize("kind", [*KINDS, "llava"])
def test_pixels_are_those_of_the_processor(kind, tmp_path):
    processor = written(kind, tmp_path / "model")
    spec = ImageSpec.of(open_checkpoint(tmp_path / "model").config)
    for image in images():
        # Pillow's order when the checkpoints were trained: first the width, also where 13.0 begins with the height.
        first = image.resize((70, image.height), Image.Resampling.BICUBIC) if kind in WHOLE else image
        wanted = np.asarray(processor(first)["pixel_values"][0])
        own = preprocess(image, spec)[0]
        assert own.shape == wanted.shape
        # The same 8-bit pixels: a step of one is 1 / (255 * 0.27) = 0.0145, float rounding 1e-6.
        assert np.abs(own - wanted).max() < 1e-5, image.size


WORDS = (
    "what is on the table left of a red cup , and how many ? Count them.\nAnswer with one word. (3) \u00e9 x=1".split(
        " "
    )
)


def texts(count: int) -> list[str]:
    draws = random.Random(4)
    return [" ".join(draws.choice(WORDS) for _ in range(draws.randint(1, 12))) for _ in range(count)]


@pytest.fixture(scope="module", params=[False, True], ids=["legacy false", "legacy true"])
def processor(request, tmp_path_factory):
    """transformers' processor of a small LLaVA, from its files alone, and the checkpoint."""
    directory = tmp_path_factory.mktemp("processor") / "model"
    neighbours.llava_hf(directory)
    config = json.loads((directory / "tokenizer_config.json").read_text())
    neighbours.write_json(directory / "tokenizer_config.json", config | {"legacy": request.param})
    tokenizer = LlamaTokenizerFast.from_pretrained(directory)
    images_of = CLIPImageProcessorPil(
        **{k: v for k, v in neighbours.CLIP_PROCESSOR.items() if k != "image_processor_type"}
    )
    made = LlavaProcessor(
        images_of,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=neighbours.CHAT_TEMPLATE,
    )
    return made, open_checkpoint(directory)


@pytest.mark.parametrize("num_images", [0, 1, 2, 3])
def test_token_ids_are_those_of_the_processor(num_images, processor):
    """50 questions each, a quarter of them after an answered one."""
    made, checkpoint = processor
    tokenizer, photo = checkpoint.tokenizer(), PHOTO.resize((64, 48))
    for number, text in enumerate(texts(50)):
        conversation = Conversation(template(checkpoint.config.conv_mode))
        shown = [{"type": "image"}] * num_images
        messages = [{"role": "user", "content": [*shown, {"type": "text", "text": text}]}]
        conversation.ask(text, num_images)
        if number % 4 == 0:
            conversation.answer("It is there.")
            conversation.ask("Why?")
            messages.append({"role": "assistant", "content": [{"type": "text", "text": "It is there."}]})
            messages.append({"role": "user", "content": [{"type": "text", "text": "Why?"}]})
        prompt = made.apply_chat_template(messages, add_generation_prompt=True)
        assert conversation.prompt() == prompt
        wanted = made(text=prompt, images=[photo] * num_images or None, return_tensors="pt")["input_ids"][0]
        ids = tokenizer.encode(conversation.segments(), image_token_id=neighbours.IMAGE_ID)
        expanded = [one for index in ids for one in [index] * (16 if index == neighbours.IMAGE_ID else 1)]
        assert torch.equal(torch.tensor(expanded), wanted), (text, expanded, wanted.tolist())
