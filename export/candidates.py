"""Candidates of `--precision auto`: a bundle for each precision, and the data that a board chooses by."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace

from safetensors.numpy import save

from mobilevlm.engines.atomic_dir import staged
from mobilevlm.engines.candidates import AUTO, CHECK_FILE, Candidates, write_candidates
from mobilevlm.engines.signature import SecretKey
from mobilevlm.errors import UserError

from .bundle_writer import write_bundle
from .calibration.agreement_set import held_back, make_check
from .calibration.conversations import DEFAULT, MOST_CONVERSATIONS, read_conversations
from .plan import BuildPlan
from .verification.verify import VerificationError


def write_all(plans: Mapping[str, BuildPlan], key: SecretKey | None = None) -> Candidates:
    """Writes all candidates into one folder, which appears when it is whole.

    Args:
        plans: candidate name to its plan, each as if it were the only one.
        key: to sign them with; None for bundles without a signature.

    Raises:
        UserError: none of them is close enough to PyTorch, or see `write_bundle`.
    """
    first = next(iter(plans.values()))
    file = next((one.stages.calibration.path for one in plans.values() if one.stages.calibration), DEFAULT)
    known, checked = held_back(read_conversations(file, MOST_CONVERSATIONS))
    command, left_out = _of_all(first.command), {}
    with staged(first.out, first.overwrite) as directory:
        for name, plan in plans.items():
            _say(f"candidate {name}")
            # Random weights have nothing to be calibrated on; a few conversations show how large values get.
            calibration = plan.stages.calibration
            if calibration and plan.stages.choose_weights:
                calibration = known
            one = replace(plan.stages, calibration=calibration)
            try:
                write_bundle(replace(plan, out=directory / name, command=command, stages=one), key)
            except VerificationError as error:
                _say(f"{name} is left out: {error}")
                left_out[name] = str(error)
        names = [name for name in plans if name not in left_out]
        if not names:
            raise UserError(f"no candidate is close enough to PyTorch: {'; '.join(left_out.values())}")
        _say("what PyTorch says to the conversations that candidates are compared by")
        (directory / CHECK_FILE).write_bytes(save(make_check(first.stages.checkpoint, checked)))
        found = Candidates(names, command, left_out)
        write_candidates(directory, found)
    return found


def _of_all(command: str) -> str:
    """The command line of one candidate as that of all of them."""
    words = shlex.split(command)
    words[words.index("--precision") + 1] = AUTO
    return shlex.join(words)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
