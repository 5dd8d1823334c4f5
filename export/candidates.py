"""`--precision auto`: a bundle for each precision that may be worth having, and what a board chooses by."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace

from safetensors.numpy import save

from mobilevlm.engines.atomic_dir import staged
from mobilevlm.engines.candidates import AUTO, CHECK_FILE, Candidates, write_candidates
from mobilevlm.errors import UserError

from .bundle_writer import write_bundle
from .calibration.agreement_set import held_back, make_check
from .calibration.conversations import DEFAULT, MOST_CONVERSATIONS, read_conversations
from .plan import BuildPlan
from .verification.verify import VerificationError


def write_all(plans: Mapping[str, BuildPlan], judged: bool = False) -> Candidates:
    """Write all candidates into one folder, which appears when it is whole.

    Args:
        plans: of the candidates, by name, each as if it were the only one.
        judged: see `write_bundle`.

    Raises:
        UserError: none of them is close enough to PyTorch, or see `write_bundle`.
    """
    first = next(iter(plans.values()))
    file = next((plan.calibration.path for plan in plans.values() if plan.calibration), DEFAULT)
    known, checked = held_back(read_conversations(file, MOST_CONVERSATIONS))
    command, left_out = _of_all(first.command), {}
    with staged(first.out, first.overwrite) as directory:
        for name, plan in plans.items():
            _say(f"candidate {name}")
            # Random weights have nothing to be calibrated on; one conversation shows how large values get.
            calibration = known if plan.calibration and plan.choose_weights else plan.calibration
            try:
                write_bundle(replace(plan, out=directory / name, command=command, calibration=calibration), judged)
            except VerificationError as error:
                _say(f"{name} is left out: {error}")
                left_out[name] = str(error)
        names = [name for name in plans if name not in left_out]
        if not names:
            raise UserError(f"no candidate is close enough to PyTorch: {'; '.join(left_out.values())}")
        _say("what PyTorch says to the conversations that candidates are compared by")
        (directory / CHECK_FILE).write_bytes(save(make_check(first.checkpoint, checked)))
        found = Candidates(names, command, left_out)
        write_candidates(directory, found)
    return found


def _of_all(command: str) -> str:
    words = shlex.split(command)
    words[words.index("--precision") + 1] = AUTO
    return shlex.join(words)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
