"""The target table and the --precision option that reads it."""

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

import pytest
import torch

from mobilevlm.engines.targets import STAGES_WITH_PRECISION, TARGETS, parse_precision
from mobilevlm.errors import UserError
from mobilevlm.export.precisions import precision


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_rows_name_things_that_exist(target):
    for name in (target.lowering, target.prefill_lowering):
        assert import_module(f"mobilevlm.export.lowerings.{name}").attention
    assert set(target.default_precision) >= set(STAGES_WITH_PRECISION)
    assert set(target.precisions) == set(STAGES_WITH_PRECISION)
    for stage, names in target.precisions.items():
        assert target.default_precision[stage] in names
        # What a quantised one for all stages falls back to is the last, in less and less bytes.
        assert sorted(names, key=lambda name: -precision(target.module(name)).BYTES) == list(names)
    for name in {*target.default_precision.values()}.union(*target.precisions.values()):
        module = precision(target.module(name))
        assert module.linear and module.TOLERANCE > 0


def test_which_precisions_need_calibration_data():
    host, orin, phone = (TARGETS[name] for name in ("host", "orin", "snapdragon"))
    assert not host.fixes_ranges("int8") and orin.fixes_ranges("int8") and phone.fixes_ranges("a16w8")
    assert host.calibrates("decoder", "int4") and not host.calibrates("decoder", "int8")
    assert orin.calibrates("vision", "int8") and orin.calibrates("decoder", "int4")
    assert not orin.calibrates("vision", "fp16") and not orin.calibrates("decoder", "fp16")


def test_precision_option():
    host = TARGETS["host"]
    assert parse_precision(None, host) == host.default_precision
    assert parse_precision("fp16", host) == {"vision": "fp16", "decoder": "fp16"}
    assert parse_precision("vision=fp32, decoder=fp16", host) == {"vision": "fp32", "decoder": "fp16"}
    rows = "int8_amx" if torch.cpu._is_amx_tile_supported() and find_spec("openvino") else "int8"
    assert host.default_precision == {"vision": rows, "prefill": rows, "decoder": "int4"}
    assert parse_precision("vision=fp16", host) == host.default_precision | {"vision": "fp16"}
    assert parse_precision("decoder=fp16", host) == {"vision": rows, "decoder": "fp16"}
    assert parse_precision("vision=int8,decoder=int4", host) == {"vision": "int8", "decoder": "int4"}
    assert parse_precision("int4", host) == {"vision": "int8", "decoder": "int4"}  # int4 is the decoder's alone
    assert parse_precision("int8", host) == {"vision": "int8", "decoder": "int8"}
    assert parse_precision("prefill=int8,decoder=int4", host) == host.default_precision | {"prefill": "int8"}
    for name in ("int8", "int8_amx"):
        mix = f"vision={name},prefill={name},decoder=int4"
        assert parse_precision(mix, host) == {"vision": name, "prefill": name, "decoder": "int4"}


def test_only_a_quantised_precision_for_all_stages_gives_a_stage_another():
    """A person who asks for exactness never gets less of it unsaid."""
    row = replace(TARGETS["host"], precisions={"vision": ("fp16", "int8"), "decoder": ("fp32", "int8", "int4")})
    assert parse_precision("int4", row) == {"vision": "int8", "decoder": "int4"}
    for text in ("fp32", "vision=fp32"):
        with pytest.raises(UserError, match="no vision=fp32: choose vision= from fp16, int8"):
            parse_precision(text, row)
    unquantised = replace(row, precisions={"vision": ("fp16",), "decoder": ("int4",)})
    with pytest.raises(UserError, match="no vision=int4: choose vision= from fp16"):
        parse_precision("int4", unquantised)


@pytest.mark.parametrize(
    "text, message",
    [
        ("fp8", "'fp8' is not available for target host"),
        ("lm_head=fp16", "'lm_head' is no stage"),
        ("", "''"),
        ("vision=int4", "no vision=int4, because vision=int8 is quicker there and more exact: use vision=int8$"),
        ("vision=int4,decoder=int4", "use vision=int8$"),
        ("fp16,fp32", "twice"),
        ("prefill=int8,decoder=fp32", "a prefill of its own is prefill=int8(_amx)? beside decoder=int4"),
        ("prefill=fp16", "prefill=fp16 beside decoder=int4"),
        ("int8,prefill=int8", "prefill=int8 beside decoder=int8"),
    ],
)
def test_precision_mistakes(text, message):
    with pytest.raises(UserError, match=message):
        parse_precision(text, TARGETS["host"])
