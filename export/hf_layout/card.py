"""The layout's README.md: what the files are, how to ask them in JavaScript, how close they are to PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.engines.tables import markdown_lines

from ..verification.differences import Difference
from .configuration import CLASS
from .names import Variant

_CARD = """\
---
library_name: transformers.js
pipeline_tag: image-text-to-text
---

# {name} in ONNX, for transformers.js and ONNX Runtime

```js
import {{ AutoProcessor, {kind}, RawImage }} from "@huggingface/transformers";

const folder = "{name}"; // this folder, below env.localModelPath, or its name on the hub
const processor = await AutoProcessor.from_pretrained(folder);
const model = await {kind}.from_pretrained(folder, {{ dtype: "{dtype}" }});

const image = await RawImage.read("picture.png");
const content = [{{ type: "image" }}, {{ type: "text", text: "What is in the picture?" }}];
const prompt = processor.apply_chat_template([{{ role: "user", content }}], {{ add_generation_prompt: true }});
const inputs = await processor(image, prompt);
const tokens = await model.generate({{ ...inputs, max_new_tokens: 128 }});
const answer = tokens.slice(null, [inputs.input_ids.dims.at(-1), null]);
console.log(processor.batch_decode(answer, {{ skip_special_tokens: true }})[0]);
```

Written by `{command}`

"""


def render_card(
    checkpoint: Checkpoint, variants: Sequence[Variant], found: Mapping[str, Sequence[Difference]], command: str
) -> str:
    """Returns the card, as Markdown.

    Args:
        checkpoint: the model.
        variants: those there are, the most exact first.
        found: how each data type's stages compare with PyTorch.
        command: the command line that writes the layout again.
    """
    text = _CARD.format(name=checkpoint.name, kind=CLASS, dtype=variants[0].dtype, command=command)
    rows = [
        [dtype, item.stage, item.tensor, f"{item.snr_db:.1f}", f"{item.floor_db:.1f}", f"{item.max_abs_diff:.2e}"]
        for dtype, items in found.items()
        for item in items
        if not item.is_of_form
    ]
    header = ["dtype", "stage", "tensor", "SNR dB", "floor dB", "max difference"]
    lines = [
        "Signal to noise on one image and question, against PyTorch in float32:",
        "",
        *markdown_lines(header, rows),
    ]
    return text + "\n".join(lines) + "\n"
