"""The target table and the --precision option that reads it."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch

from mobilevlm.engines import machine
from mobilevlm.engines.manifest_defaults import FORMS, with_forms
from mobilevlm.engines.ort import openvino
from mobilevlm.engines.stage_form import OPENVINO
from mobilevlm.engines.stages import PREFILL
from mobilevlm.engines.targets import STAGES_WITH_PRECISION, TARGETS
from mobilevlm.errors import UserError
from mobilevlm.export.precision_option import default_precision, parse_precision
from mobilevlm.export.precisions import facts_of, module_name, precision
from mobilevlm.export.stage_forms import stage_forms

RUNTIMES = {"ort": ("onnxruntime", OPENVINO), "qnn": ("qnn",), "tensorrt": ("tensorrt",)}


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_rows_name_things_that_exist(target):
    for name in (target.lowering, target.prefill_lowering):
        assert import_module(f"mobilevlm.export.lowerings.{name}").attention
    assert set(target.preferred) >= set(STAGES_WITH_PRECISION)
    assert set(target.precisions) == set(STAGES_WITH_PRECISION)
    for stage, names in target.precisions.items():
        assert set(target.preferred[stage]) <= set(names)
        # What a quantised one for all stages falls back to is the last, in less and less bytes.
        assert sorted(names, key=lambda name: -facts_of(target.backend, name).bytes_per_weight) == list(names)
    for name in set().union(*target.preferred.values(), *target.precisions.values()):
        module = precision(module_name(target.backend, name))
        assert module.linear and module.FACTS.tolerance > 0
        assert module.FACTS.form.runtime in RUNTIMES[target.backend]
    decoders = {name: target.precisions["decoder"] for name in target.preferred.get(PREFILL, ())}
    assert all(facts_of(target.backend, name).prefill.decoder in known for name, known in decoders.items())


def test_which_precisions_need_calibration_data():
    host, orin, phone = "ort", "tensorrt", "qnn"
    assert not facts_of(host, "int8").fixes_ranges
    assert facts_of(orin, "int8").fixes_ranges and facts_of(phone, "a16w8").fixes_ranges
    assert facts_of(host, "int4").calibrates("decoder") and not facts_of(host, "int8").calibrates("decoder")
    assert facts_of(orin, "int8").calibrates("vision") and facts_of(orin, "int4").calibrates("decoder")
    assert not facts_of(orin, "fp16").calibrates("vision") and not facts_of(orin, "fp16").calibrates("decoder")


@pytest.mark.parametrize("amx, package, rows", [(True, True, "int8_amx"), (True, False, "int8"), (False, True, "int8")])
def test_the_machine_is_asked_where_a_bundle_is_built(amx, package, rows, monkeypatch):
    """The table is the same everywhere; int8_amx is preferred where the CPU has the unit and OpenVINO is installed."""
    monkeypatch.setattr(machine, "has_amx", lambda: amx)
    monkeypatch.setattr(openvino, "is_installed", lambda: package)
    host = TARGETS["host"]
    assert host.preferred == {"vision": ("int8_amx", "int8"), "prefill": ("int8_amx", "int8"), "decoder": ("int4",)}
    assert default_precision(host) == {"vision": rows, "prefill": rows, "decoder": "int4"}
    with pytest.raises(UserError, match=f"own is prefill={rows} beside decoder=int4"):
        parse_precision("prefill=fp16", host)
    for name in TARGETS.keys() - {"host"}:
        assert default_precision(TARGETS[name]) == {stage: one for stage, (one,) in TARGETS[name].preferred.items()}


MIXES = [(target, None) for target in TARGETS]
MIXES += [(target.name, name) for target in TARGETS.values() for name in target.precisions["decoder"]]
MIXES += [("host", f"vision={name},prefill={name},decoder=int4") for name in ("int8", "int8_amx")]


@pytest.mark.parametrize("target, asked", [one for one in MIXES if one != ("snapdragon", "a16w4")])
def test_bundles_of_before_are_run_like_those_of_today(target, asked):
    """What a build notes is what is derived for a bundle of a version that noted nothing."""
    chosen = parse_precision(asked, TARGETS[target])
    noted = stage_forms(TARGETS[target], chosen)
    assert with_forms({"target": target, "precision": chosen})["forms"] == noted
    assert all(f"{TARGETS[target].backend}_{name}" in FORMS for name in chosen.values())


def test_a_strange_precision_of_before_is_refused():
    with pytest.raises(ValueError, match="how decoder=int2 is run"):
        with_forms({"target": "host", "precision": {"decoder": "int2"}})
    assert "forms" not in with_forms({"target": "abacus", "precision": {"decoder": "int2"}})


def test_precision_option():
    host = TARGETS["host"]
    own = default_precision(host)
    assert parse_precision(None, host) == own
    assert parse_precision("fp16", host) == {"vision": "fp16", "decoder": "fp16"}
    assert parse_precision("vision=fp32, decoder=fp16", host) == {"vision": "fp32", "decoder": "fp16"}
    rows = "int8_amx" if torch.cpu._is_amx_tile_supported() and openvino.is_installed() else "int8"
    assert own == {"vision": rows, "prefill": rows, "decoder": "int4"}
    assert parse_precision("vision=fp16", host) == own | {"vision": "fp16"}
    assert parse_precision("decoder=fp16", host) == {"vision": rows, "decoder": "fp16"}
    assert parse_precision("vision=int8,decoder=int4", host) == {"vision": "int8", "decoder": "int4"}
    assert parse_precision("int4", host) == {"vision": "int8", "decoder": "int4"}  # int4 is the decoder's alone
    assert parse_precision("int8", host) == {"vision": "int8", "decoder": "int8"}
    assert parse_precision("prefill=int8,decoder=int4", host) == own | {"prefill": "int8"}
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
