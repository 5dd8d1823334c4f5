"""Asks the export through Optimum: `ask_optimum.py PACKAGES FOLDER IMAGE QUESTION`.

It has versions of its own, because optimum-onnx 0.1 needs transformers 4.
"""

from __future__ import annotations

import json
import sys

packages, folder, path, question = sys.argv[1:]
sys.path.insert(0, packages)
sys.path.append(".")

import onnxruntime as ort  # noqa: E402
import torch  # noqa: E402
from optimum.onnxruntime import ORTModelForCausalLM  # noqa: E402
from transformers import AutoConfig, AutoTokenizer  # noqa: E402

from mobilevlm.image import ImageSpec, load_image, preprocess  # noqa: E402

DECODER = {"subfolder": "onnx", "file_name": "decoder_model_merged.onnx"}


class SeeingDecoder(ORTModelForCausalLM):
    """The decoder, with an image's features in the places of its tokens."""

    embed: ort.InferenceSession
    image_token: int
    features: torch.Tensor

    def _prepare_onnx_inputs(self, use_torch: bool, inputs: dict) -> dict:
        ids = inputs.pop("input_ids")
        rows = torch.from_numpy(self.embed.run(None, {"input_ids": ids.numpy()})[0])
        places = ids == self.image_token
        if places.any():
            rows[places] = self.features
        return super()._prepare_onnx_inputs(use_torch, inputs | {"inputs_embeds": rows})


def graph(name: str) -> ort.InferenceSession:
    return ort.InferenceSession(f"{folder}/onnx/{name}.onnx", providers=["CPUExecutionProvider"])


config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
content = [{"type": "image"}, {"type": "text", "text": question}]
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
)
inputs = tokenizer(prompt.replace("<image>", "<image>" * config.image_seq_length), return_tensors="pt")
inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}

refused = ""
try:
    ORTModelForCausalLM.from_pretrained(folder, config=config.text_config, **DECODER)(**inputs)
except ValueError as error:
    refused = str(error)

model = SeeingDecoder.from_pretrained(folder, config=config.text_config, **DECODER)
pixels = preprocess(load_image(path), ImageSpec(config.vision_config.image_size))
model.embed, model.image_token = graph("embed_tokens"), config.image_token_index
model.features = torch.from_numpy(graph("vision_encoder").run(None, {"pixel_values": pixels})[0][0])
tokens = model.generate(**inputs, max_new_tokens=48, do_sample=False)
text = tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
print(json.dumps({"text": text, "refused": refused}))
