"""Small SmolVLM and Idefics3 checkpoints with random weights, written by transformers, and a tokenizer trained here."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    PreTrainedModel,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from tests.conftest import ROOT
from tests.mobilevlm.neighbours import LLAMA, shaken, write_json

CLASSES = {
    "idefics3": (Idefics3Config, Idefics3ForConditionalGeneration),
    "smolvlm": (SmolVLMConfig, SmolVLMForConditionalGeneration),
}
PIECES = 600
TILE, PATCH, FACTOR = 64, 8, 4  # 8 x 8 patches, 4 tokens
TOKENS = (TILE // PATCH // FACTOR) ** 2
FIRST = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>")
TAGS = ("<global-img>", *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)))
VISION = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    image_size=TILE,
    patch_size=PATCH,
)
# As published with HuggingFaceTB/SmolVLM-256M-Instruct, in the tower's size.
PROCESSOR = {
    "image_processor_type": "Idefics3ImageProcessor",
    "do_convert_rgb": True,
    "do_image_splitting": False,
    "do_normalize": True,
    "do_pad": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "max_image_size": {"longest_edge": TILE},
    "processor_class": "Idefics3Processor",
    "resample": 1,
    "rescale_factor": 0.00392156862745098,
    "size": {"longest_edge": 4 * TILE},
}
CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


@lru_cache
def trained(with_tags: bool) -> tokenizers.Tokenizer:
    """A byte-level BPE as SmolLM2's: digits apart, GPT-2's splits, control tokens in front and behind.

    Args:
        with_tags: whether `<global-img>` and `<row_1_col_1>` are tokens, as in the small models, or spelt.
    """
    made = tokenizers.Tokenizer(models.BPE(unk_token=FIRST[0]))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES, special_tokens=list(FIRST), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train([str(ROOT / "README.md"), str(ROOT / "CONTRIBUTING.md")], trainer)
    names = (*(TAGS if with_tags else ()), *MARKS)
    made.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    return made


def write_tokenizer(directory: Path, with_tags: bool = True) -> tokenizers.Tokenizer:
    """Writes the tokenizer's files, as the hub has them."""
    directory.mkdir(parents=True, exist_ok=True)
    made = trained(with_tags)
    made.save(str(directory / "tokenizer.json"))
    roles = {"bos_token": FIRST[1], "eos_token": "<end_of_utterance>", "pad_token": FIRST[2], "unk_token": FIRST[0]}
    config = {"tokenizer_class": "GPT2Tokenizer", "clean_up_tokenization_spaces": False, "add_prefix_space": False}
    write_json(directory / "tokenizer_config.json", config | roles | {"chat_template": CHAT_TEMPLATE})
    return made


def smolvlm(
    directory: Path, kind: str = "smolvlm", with_tags: bool = True, tiles: bool = False, **changes
) -> PreTrainedModel:
    """A checkpoint, saved by transformers; returns its model."""
    made = write_tokenizer(directory, with_tags)
    config_class, model_class = CLASSES[kind]
    rows = made.get_vocab_size() + 7  # padded, as published
    text = LLAMA | {
        "model_type": "llama",
        "vocab_size": rows,
        "head_dim": 16,
        "rope_theta": 100000.0,
        "bos_token_id": 1,
        "eos_token_id": made.token_to_id("<end_of_utterance>"),
        "pad_token_id": 2,
    }
    config = config_class(
        text_config=text | changes.pop("text", {}),
        vision_config=VISION | changes.pop("vision", {}),
        scale_factor=changes.pop("scale_factor", FACTOR),
        image_token_id=made.token_to_id("<image>"),
        pad_token_id=2,
        **changes,
    )
    model = shaken(model_class(config))
    model.save_pretrained(directory)
    write_json(directory / "preprocessor_config.json", PROCESSOR | {"do_image_splitting": tiles})
    return model
