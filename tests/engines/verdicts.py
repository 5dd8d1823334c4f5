"""What NVIDIA's own parser and builder say of the graphs that our rules refuse, and why we refuse what they build.

    python -m tests.engines.verdicts

writes `docs/rules.md` from the table below, which `test_verdicts.py` holds against the builder itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilevlm.engines.tensorrt.profiles import Profile
from mobilevlm.engines.tensorrt.rtx import Judgement, judge
from tests.conftest import ROOT

from .bad_graphs import BAD
from .drafts import K, N

VERSION = "1.7.1.116"  # of TensorRT-RTX, of the generation of TensorRT 11.4
PAGE = ROOT / "docs" / "rules.md"
SIZES = (1, 2, 3)  # of a dimension without one: smallest, usual, largest
# Warnings of every graph that has such an input or output, whatever rule it breaks.
ALWAYS = ("Int64 binding", "RemoveDeadLayers")


@dataclass(frozen=True)
class Verdict:
    """One graph.

    Attributes:
        outcome: `refused`; `warned`, when it is built with a warning; or `built`.
        words: of the error or warning.
        why: for what is built, why our rules refuse it all the same.
    """

    outcome: str
    words: str = ""
    why: str = ""


def refused(words: str) -> Verdict:
    return Verdict("refused", words)


def built(why: str) -> Verdict:
    return Verdict("built", "", why)


NEWER = "the rule is one of older versions: this builder is of 11.4's generation"
VERDICTS = {
    "opset": built(NEWER),
    "opset of fused": built("it reads opset 25, and 10.16 documents 24"),
    "too old": built(NEWER),
    "domain": built("nothing of the domain is used; a graph that names one was written for another runtime"),
    "vendor's operator": refused("Plugin not found"),
    "unknown operator": built(
        "TensorRT has it; our table has the operators whose form was looked up for every version"
    ),
    "newer operator": built(NEWER),
    "type": refused("must have type Float, Half"),
    "mixed types": refused("must have same input types"),
    "output's type": built("the engine's output is float16 all the same, and a buffer of float32 would be half filled"),
    "scale's type": built("10.3 documents one type for both"),
    "float16 norm": built("it is no question of form: the square of 256 is infinite in float16"),
    "float16 layer norm": built("this builder casts to float32 by itself; nothing says that 10.3 does"),
    "value that sizes": refused("missing values for shape input tensor length"),
    "value that shapes": refused("missing values for shape input tensor length"),
    "computed axes": refused("Axis input must resolve to a build-time constant"),
    "too many": refused("K exceeds the maximum value allowed (3840)"),
    "computed count": refused("missing values for shape input tensor k"),
    "places as values": built("the engine's output is int64 all the same"),
    "rank": refused("Failed to convert ONNX dimensions to TensorRT dimensions"),
    "empty": built("empty inputs crashed builds of older versions"),
    "no name": built("inputs that share a length share a name: without it no profile is checked for that"),
    "unread input": Verdict("warned", "Unused Input: idle", "versions differ in whether the engine keeps the input"),
    "infinite mask": built("it is no question of form: a row that is masked as a whole becomes NaN"),
    "mask elsewhere": built("kernels of attention take a mask that is added to scores"),
    "scaled scores": built("the form that is fused has its queries scaled before the product"),
    "output is input": built("it copies; older versions would want one address for both"),
    "file elsewhere": refused("Failed to import initializer: w0"),
    "no offset": built("ONNX lets an offset be 0 unsaid; our weights share a file, where it is a slip"),
    "zero point": refused("Non-zero zero point is not supported"),
    "unsigned": Verdict("warned", "Defaulting to INT8 instead", "codes above 127 are read as negative ones"),
    "scale of zero": refused("Scale coefficients must all be positive"),
    "channels of values": refused("ScaleMode is illegal"),
    "axis": built("scales along the summed axis leave no int8 product: codes are decoded first"),
    "no axis": built("parsers differ in the axis that is meant"),
    "output type": built("10.3's parser reads it as the type of the quantised values"),
    "int8 residual": built("a residual stream in int8 cost a vision tower on an Orin 80 points"),
    "codes read": built("codes belong in front of products; a strongly typed network of 10.3 takes no int8 here"),
    "other scale": built("values would be multiplied by what the scales differ in"),
    "weight coded": built("the weight is decoded anew in every call, and the product is one of float16"),
    "cast weights": built("a cast between decoded weights and a product is not fused by every version"),
    "small blocks": built("10.3 has kernels for blocks of 64 and 128"),
    "odd int4": built("weights are padded and decoded anew in every call, and the product is one of float16"),
    "blocks elsewhere": refused("only the quantization axis may be blocked"),
    "newer int4": built(NEWER),
    "no mask": built("its own causal order begins at the cache's first row"),
    "causal": refused("Option mask cannot be used together w"),
    "not decomposable": built("there is a kernel here; where there is none, the build fails"),
    "heads apart": built("our rules know (batch, heads, rows, size) alone"),
    "past": refused("Setting past_key for the Attention node is not supported"),
    "cache is not handed out": refused("The output tensor must be a network output"),
    "cache of any size": refused("must have a static sequence length dimension"),
    "cache's axis": refused("Sequence dimension must be -2"),
    "cache read before": built("before or after the update is not said: it is one buffer"),
    "cache between addresses": built("the next cache would begin at no multiple of 256 bytes, which a context refuses"),
}


def given(draft: Any, directory: Path) -> Judgement:
    """What the builder makes of a graph, the weights that it may name beside it and above it."""
    model, folder = draft.model(), directory / "bundle"
    folder.mkdir()
    for place in (folder, directory):
        (place / "w.bin").write_bytes(bytes(2 * K * N))
    (folder / "graph.onnx").write_bytes(model.SerializeToString())
    return judge(folder / "graph.onnx", _profiles(model))


def _profiles(model: Any) -> list[Profile]:
    dims = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    if all(dim.HasField("dim_value") for some in dims.values() for dim in some):
        return []
    sized = {
        name: tuple(tuple(dim.dim_value if dim.HasField("dim_value") else size for dim in some) for size in SIZES)
        for name, some in dims.items()
    }
    return [sized]


def observed(judged: Judgement) -> tuple[str, str]:
    """Outcome and all that was said."""
    if judged.problems:
        return "refused", "\n".join(judged.problems)
    said = [line for line in judged.warnings if not any(mark in line for mark in ALWAYS)]
    return "warned" if said else "built", "\n".join(said)


def page() -> str:
    """`docs/rules.md`."""
    counts = {kind: sum(one.outcome == kind for one in VERDICTS.values()) for kind in ("refused", "warned", "built")}
    rows = []
    for name, verdict in VERDICTS.items():
        _, version, _, rule = BAD[name]
        said = f"{verdict.outcome}: {verdict.words}" if verdict.words else verdict.outcome
        rows.append(f"| {name} | {version} | {rule} | {said} | {verdict.why} |")
    return f"""# TensorRT's rules, and what NVIDIA's builder says of graphs that break them

`engines/tensorrt/rules/` refuses graphs off the board. `tests/engines/bad_graphs.py` has a graph for each rule, and
`tests/engines/test_verdicts.py` gives each to NVIDIA's own parser and builder (TensorRT-RTX {VERSION}, of the
generation of TensorRT 11.4, without a GPU; see [nvidia.md](nvidia.md)): of {len(VERDICTS)} it refuses
{counts["refused"]}, each for the rule's reason, and builds {counts["warned"]} with a warning and {counts["built"]}
without. It builds all good graphs of that file. What older versions do, and what kernels there are on an Orin, is from
documentation: *not measured* here (`python engines/compile.py DIR` on a board).

Written by `python -m tests.engines.verdicts`. The version is the one the rule is checked for.

| graph | TensorRT | our rule says | NVIDIA's builder | why it is refused all the same |
|---|---|---|---|---|
""" + "".join(f"{row}\n" for row in rows)


if __name__ == "__main__":
    PAGE.write_text(page())
