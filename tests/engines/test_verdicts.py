"""Our rules' graphs in front of NVIDIA's own parser and builder: what it says is what is written down."""

from __future__ import annotations

import pytest

from mobilevlm.engines.tensorrt.rules.check import check
from tests.conftest import needs_rtx
from tests.engines.bad_graphs import BAD, GOOD
from tests.engines.verdicts import PAGE, VERDICTS, VERSION, given, observed, page


@needs_rtx
@pytest.mark.parametrize("name", BAD)
def test_a_bad_graph_gets_the_verdict_that_is_written_down(name, tmp_path):
    judged = given(BAD[name][0], tmp_path)
    assert judged.version == VERSION, "another wheel: run these tests with it, and write down what has changed"
    outcome, said = observed(judged)
    assert outcome == VERDICTS[name].outcome and VERDICTS[name].words in said, said


@needs_rtx
@pytest.mark.parametrize("name", GOOD)
def test_what_our_rules_let_pass_is_built(name, tmp_path):
    draft, versions = GOOD[name]
    assert check(draft.model(), versions[-1]) == [] and observed(given(draft, tmp_path)) == ("built", "")


def test_every_graph_has_a_verdict_and_a_reason_where_it_is_needed():
    assert list(VERDICTS) == list(BAD)
    for name, verdict in VERDICTS.items():
        assert bool(verdict.why) == (verdict.outcome != "refused"), name
        assert bool(verdict.words) == (verdict.outcome != "built"), name


def test_the_page_is_what_the_command_writes():
    assert PAGE.read_text() == page()
