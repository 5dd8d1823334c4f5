"""What following a schema costs for each token, at the demo's vocabulary and at one of 32,000 pieces.

    python -m tests.runtime.json_cost

The larger vocabulary is trained on Python's standard library; the logits are random, which is harder than a model's:
every kind of token is tried. Times are CPU time, which other processes do not lengthen.
"""

from __future__ import annotations

import json
import sysconfig
import tempfile
import time
from pathlib import Path

import numpy as np
import sentencepiece

from mobilevlm.runtime.json_answers.grammars import JsonGrammars
from mobilevlm.text.tokenizer import Tokenizer
from tests.conftest import DEMO

BOX = {"type": "array", "items": {"type": "integer"}, "minItems": 4, "maxItems": 4}
THING = {"type": "object", "properties": {"name": {"type": "string"}, "box": BOX}, "required": ["name", "box"]}
_ALONE = {"required": ["colour", "n"], "additionalProperties": False}
SCHEMAS = {
    "closed": {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "n": {"type": "integer"}},
        **_ALONE,
    },
    "objects": {"type": "object", "properties": {"things": {"type": "array", "items": THING}}, "required": ["things"]},
    "any object": {"type": "object"},
    "a date": {
        "type": "object",
        "properties": {"when": {"type": "string", "format": "date-time"}},
        "required": ["when"],
    },
}


def of_32000(directory: Path) -> Tokenizer:
    """Trains a tokenizer of LLaMA's size and kind."""
    library = Path(sysconfig.get_path("stdlib"))
    files = [*sorted(library.glob("*.py")), *sorted(library.glob("*/*.py"))]
    (directory / "text").write_text("\n".join(file.read_text(errors="replace") for file in files))
    options = {"vocab_size": 32000, "model_type": "bpe", "byte_fallback": True, "minloglevel": 2}
    options |= {"input_sentence_size": 150000, "shuffle_input_sentence": True, "num_threads": 1}
    sentencepiece.SentencePieceTrainer.train(input=directory / "text", model_prefix=directory / "tokenizer", **options)
    return Tokenizer(directory)


def microseconds(grammars: JsonGrammars, size: int, schema: dict) -> tuple[float, np.ndarray]:
    """Returns what compiling took, and every token of 20 answers of at most 200 tokens."""
    begin = time.thread_time()
    constraint = grammars.constraint(schema)
    compiled, taken, rng = time.thread_time() - begin, [], np.random.default_rng(0)
    for _ in range(20):
        constraint.begin(200)
        count = 0
        while not constraint.is_complete and count < 200:
            logits = rng.standard_normal(size).astype(np.float32) * 3
            begin = time.thread_time()
            while not constraint.accept(int(constraint.restrict(logits).argmax())):
                pass
            taken.append(time.thread_time() - begin)
            count += 1
    return compiled * 1e6, np.array(taken) * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        for tokenizer in (Tokenizer(DEMO), of_32000(Path(directory))):
            begin = time.thread_time()
            grammars = JsonGrammars(tokenizer, len(tokenizer))
            print(f"{len(tokenizer)} tokens, prepared in {(time.thread_time() - begin) * 1e3:.0f} ms")
            for name, schema in SCHEMAS.items():
                compiled, taken = microseconds(grammars, len(tokenizer), json.loads(json.dumps(schema)))
                typical, rare = np.median(taken), np.percentile(taken, 99)
                figures = f"median {typical:.0f}, mean {taken.mean():.0f}, 99 % below {rare:.0f}"
                print(f"  {name}: compiled in {compiled / 1e3:.1f} ms; {len(taken)} tokens, us each: {figures}")


if __name__ == "__main__":
    main()
