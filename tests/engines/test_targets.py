"""The target table and the --precision option that reads it."""

from importlib import import_module

import pytest

from mobilevlm.engines.targets import STAGES_WITH_PRECISION, TARGETS, parse_precision
from mobilevlm.errors import UserError
from mobilevlm.export.precisions import precision


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_rows_name_things_that_exist(target):
    for name in (target.lowering, target.prefill_lowering):
        assert import_module(f"mobilevlm.export.lowerings.{name}").attention
    assert set(target.default_precision) >= set(STAGES_WITH_PRECISION)
    assert set(target.default_precision.values()) <= set(target.precisions)
    for name in target.precisions:
        assert precision(name).linear and precision(name).TOLERANCE > 0


def test_precision_option():
    host = TARGETS["host"]
    assert parse_precision(None, host) == host.default_precision
    assert parse_precision("fp16", host) == {"vision": "fp16", "decoder": "fp16"}
    assert parse_precision("vision=fp32, decoder=fp16", host) == {"vision": "fp32", "decoder": "fp16"}
    assert host.default_precision == {"vision": "int8", "prefill": "int8", "decoder": "int4"}
    assert parse_precision("vision=fp16", host) == host.default_precision | {"vision": "fp16"}
    assert parse_precision("decoder=fp16", host) == {"vision": "int8", "decoder": "fp16"}
    assert parse_precision("vision=int8,decoder=int4", host) == {"vision": "int8", "decoder": "int4"}
    assert parse_precision("prefill=int8,decoder=int4", host) == host.default_precision


@pytest.mark.parametrize(
    "text, message",
    [
        ("fp8", "'fp8' is not available for target host"),
        ("lm_head=fp16", "'lm_head' is no stage"),
        ("", "''"),
        ("fp16,fp32", "twice"),
        ("prefill=int8,decoder=fp32", "a prefill of its own is prefill=int8 beside decoder=int4"),
        ("prefill=fp16", "prefill=fp16 beside decoder=int4"),
        ("int8,prefill=int8", "prefill=int8 beside decoder=int8"),
    ],
)
def test_precision_mistakes(text, message):
    with pytest.raises(UserError, match=message):
        parse_precision(text, TARGETS["host"])
