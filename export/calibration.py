"""Calibration data: conversations about pictures, and what the decoder's layers read when they are run.

The data is LLaVA-style JSON, `[{"image": "a.jpg", "conversations": [{"from": "human" | "gpt", "value": ...}]}]`, its
pictures beside it, of the kind the model will have; the first of them are taken. The default's are the first of the
demo's training data (`train/demo/make_data.py`). What a layer reads is kept as
second moments, a matrix of the size of its inputs, and one layer's at a time: they are computed while a build streams
through the decoder, from the layers' exact weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call

from mobilevlm.checkpoint import Checkpoint
from mobilevlm.config import ModelConfig
from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec, as_list, load_image, preprocess
from mobilevlm.model import empty_model
from mobilevlm.prompt import IMAGE, IMAGE_TOKEN_INDEX, Conversation, template
from mobilevlm.splice import splice

from .reference import streamed_model

if TYPE_CHECKING:
    from PIL import Image

    from mobilevlm.model import MobileVLM

DEFAULT = Path(__file__).parent / "calibration_data" / "conversations.json"
MOST_CONVERSATIONS, MOST_TOKENS = 32, 512
# Layers by what they read: those after the first of a row read the same.
READERS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)


@dataclass(frozen=True)
class Conversations:
    """What was read: the file, beside which the pictures are, and its rows."""

    path: Path
    rows: list[dict[str, Any]]


def read_conversations(path: Path) -> Conversations:
    """The first `MOST_CONVERSATIONS` rows of a file.

    Raises:
        UserError: it is no such file, or names pictures that are not there; says what a row has to be.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--calibration {path} cannot be read as JSON: {error}") from None
    if not isinstance(rows, list) or not rows:
        raise UserError(f"--calibration {path} has to hold a list of conversations, and is {str(rows)[:40]}")
    for number, row in enumerate(rows[:MOST_CONVERSATIONS]):
        if problem := _problem(row, path.parent):
            raise UserError(f"--calibration {path}, row {number}: {problem}")
    return Conversations(path, rows[:MOST_CONVERSATIONS])


def _problem(row: Any, folder: Path) -> str | None:
    turns = row.get("conversations") if isinstance(row, dict) else None
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        return "conversations is missing, empty or no list of objects"
    speakers = [turn.get("from") for turn in turns]
    if speakers != ["human", "gpt"] * (len(turns) // 2) or not all(
        isinstance(turn.get("value"), str) for turn in turns
    ):
        return (
            'turns have to be {"from": "human", "value": TEXT} and {"from": "gpt", "value": TEXT} one after the other'
        )
    missing = [name for name in as_list(row.get("image")) if not (folder / str(name)).is_file()]
    return f"{folder / str(missing[0])} is missing" if missing else None


def embedded(checkpoint: Checkpoint, conversations: Conversations) -> list[torch.Tensor]:
    """Conversations as the decoder reads them, (1, T, D) float32 each; pictures are left out for a text-only model.

    Raises:
        UserError: a picture cannot be opened.
    """
    config, tokenizer = checkpoint.config, checkpoint.tokenizer()
    ids, images = [], []
    for row in conversations.rows:
        names = as_list(row.get("image")) if config.vision else []
        segments = _conversation(row, len(names)).segments(bool(names) and config.mm_use_im_start_end)
        ids.append(torch.tensor([tokenizer.encode(segments)]))
        images += [load_image(conversations.path.parent / name) for name in names]
    model = streamed_model(checkpoint)
    with torch.inference_mode():
        blocks = iter(_encoded(model, images, ImageSpec.of(config)) if images else [])
        table = checkpoint.tensors["model.embed_tokens.weight"]
        look_up = lambda known: table[known].float()  # noqa: E731
        found = []
        for row in ids:
            count = int((row == IMAGE_TOKEN_INDEX).sum())
            own = [next(blocks) for _ in range(count)] or [torch.empty(0, config.hidden_size)]
            found.append(splice(row, own, look_up).inputs_embeds[:, :MOST_TOKENS].clone())
    return found


def _conversation(row: dict[str, Any], num_images: int) -> Conversation:
    talk = Conversation(template("v1"))
    for number, turn in enumerate(row["conversations"]):
        text = turn["value"].replace(IMAGE.name, "").strip()
        if number % 2:
            talk.answer(text)
        else:
            talk.ask(text, 0 if number else num_images)
    return talk


def _encoded(model: MobileVLM, images: list[Image.Image], spec: ImageSpec) -> list[torch.Tensor]:
    """All in one batch: every weight is read once."""
    return model.encode_images(torch.cat([torch.from_numpy(preprocess(image, spec)) for image in images]))


class Moments:
    """Second moments of what the decoder's layers read, one layer after the other.

    Args:
        config: the model.
        tensors: its weights, balanced where the ones that are quantised are.
        inputs: see `embedded`.
    """

    def __init__(self, config: ModelConfig, tensors: Mapping[str, torch.Tensor], inputs: list[torch.Tensor]):
        self._tensors, self._hidden = tensors, inputs
        self._model = empty_model(config).model
        self._found: dict[str, torch.Tensor] = {}
        self._done = 0

    def __call__(self, name: str) -> torch.Tensor:
        """(K, K) float32 for a linear layer, which has to lie in the layer of the last call or in a later one."""
        while name not in self._found:
            self._found.clear()
            if self._done < len(self._model.layers):
                self._run_layer(f"layers.{self._done}")
            else:
                self._run_norm()
            self._done += 1
        return self._found[name]

    @torch.inference_mode()
    def _run_layer(self, name: str) -> None:
        layer = self._model.get_submodule(name)
        hooks = []
        for readers in READERS:
            moments = torch.zeros(*[layer.get_submodule(readers[0]).in_features] * 2)
            self._found |= {f"model.{name}.{reader}": moments for reader in readers}
            watched = layer.get_submodule(readers[0])
            hooks.append(watched.register_forward_pre_hook(lambda _, read, to=moments: _add(to, read[0])))
        weights = self._weights(name, layer)
        self._hidden = [
            functional_call(layer, weights, (hidden,), {"position_embeddings": self._positions(hidden)})
            for hidden in self._hidden
        ]
        for hook in hooks:
            hook.remove()

    @torch.inference_mode()
    def _run_norm(self) -> None:
        norm = self._model.norm
        weights, moments = self._weights("norm", norm), torch.zeros(*[len(self._hidden[0][0, 0])] * 2)
        for hidden in self._hidden:
            _add(moments, functional_call(norm, weights, (hidden,)))
        self._found |= {"lm_head": moments, "model.embed_tokens": moments}  # the latter where the two are tied

    def _weights(self, name: str, module: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {part: self._tensors[f"model.{name}.{part}"].float() for part, _ in module.named_parameters()}

    def _positions(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._model.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])


def _add(moments: torch.Tensor, rows: torch.Tensor) -> None:
    flat = rows.flatten(0, 1)
    moments.addmm_(flat.T, flat)
