"""The documented way to run such files with ONNX Runtime alone: encode, put the image in, decode token by token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image
from transformers import AutoConfig, AutoProcessor


class Loop:
    """The three graphs of one variant, and the processor.

    Args:
        folder: of the layout.
        suffix: of the variant's file names.
    """

    def __init__(self, folder: Path, suffix: str = ""):
        self.processor = AutoProcessor.from_pretrained(folder)
        self.config = AutoConfig.from_pretrained(folder)
        parts = ("vision_encoder", "embed_tokens", "decoder_model_merged")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.vision, self.embed, self.decoder = (
            ort.InferenceSession(folder / "onnx" / f"{part}{suffix}.onnx", options, providers=["CPUExecutionProvider"])
            for part in parts
        )

    def inputs(self, messages: list[dict], image: Image.Image | None) -> dict[str, np.ndarray]:
        prompt = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        return dict(self.processor(images=image, text=prompt, return_tensors="np"))

    def generate(self, inputs: dict[str, np.ndarray], most: int = 48) -> list[list[int]]:
        """Greedy answers to a batch of prompts, without the tokens that end them."""
        text, ids, mask = self.config.text_config, inputs["input_ids"], inputs["attention_mask"]
        shape = (len(ids), text.num_key_value_heads, 0, text.head_dim)
        names = [one.name for one in self.decoder.get_inputs() if one.name.startswith("past_key_values")]
        past = dict.fromkeys(names, np.zeros(shape, np.float32))
        positions = np.maximum(mask.cumsum(-1) - 1, 0)
        answers: list[list[int]] = [[] for _ in ids]
        ended = np.zeros(len(ids), bool)
        rows = self.embedded(ids, inputs.get("pixel_values"))
        for _ in range(most):
            logits, *present = self.decoder.run(
                None, {"inputs_embeds": rows, "attention_mask": mask, "position_ids": positions, **past}
            )
            past = dict(zip(names, present, strict=True))
            chosen = logits[:, -1].argmax(-1)
            ended |= chosen == self.config.text_config.eos_token_id
            if ended.all():
                break
            for answer, token, is_over in zip(answers, chosen, ended, strict=True):
                answer += [] if is_over else [int(token)]
            rows = self.embed.run(None, {"input_ids": chosen[:, None]})[0]
            mask = np.concatenate([mask, np.ones_like(mask[:, :1])], 1)
            positions = positions[:, -1:] + 1
        return answers

    def embedded(self, ids: np.ndarray, pixels: Sequence[np.ndarray] | np.ndarray | None) -> np.ndarray:
        """Rows of a prompt, an image's features in the places of its tokens."""
        rows = self.embed.run(None, {"input_ids": ids})[0]
        if pixels is not None:
            features = [self.vision.run(None, {"pixel_values": one[None]})[0][0] for one in pixels]
            rows[ids == self.config.image_token_index] = np.concatenate(features)
        return rows

    def say(self, question: str, image: Image.Image | None) -> str:
        (answer,) = self.generate(self.inputs(asking(question, image is not None), image))
        return self.processor.tokenizer.decode(answer, skip_special_tokens=True)


def asking(question: str, has_image: bool = True) -> list[dict]:
    """Messages of one question."""
    content = [{"type": "image"}] * has_image + [{"type": "text", "text": question}]
    return [{"role": "user", "content": content}]
