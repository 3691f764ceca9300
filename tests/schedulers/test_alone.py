"""Schedulers serve a live cluster, where no simulator is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
from tests.schedulers.views import JobRow, gpus, make_view
print(gpus("fcfs", make_view(2, JobRow(), JobRow(request=2))))
import sys
print([name for name in sys.modules if name.startswith(("marl_sched.sim", "scipy.optimize"))])
"""


def test_a_rule_answers_without_the_simulator() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[1, 0]", "[]"]
