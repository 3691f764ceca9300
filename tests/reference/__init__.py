"""A slow simulator that is easy to check by eye; the compiled one must agree with it.

Everything is a list, a dict or a dataclass, and everything that can be computed afresh is
computed afresh (free resources, for one), so that no update can be forgotten. It shares no
code with `marl_sched`, and imports nothing of it.

The rules, in the order in which `simulate` applies them:

1. t is the earliest of the next arrival, the next finish, failure or cancellation of an active
   job, the next node event and, while jobs are active, the round timer (`round_s` after the last
   decision epoch, unless every active job then held its highest level; or the next multiple of
   `round_s`, under `decide_on_rounds`).
2. Everything moves to t. Then jobs finish, fail and are cancelled, nodes go and come back, and
   arrived jobs without pending parents become active, in this order (`happenings`).
3. If a job is active, and t is one of the moments of decision, `decide` names a target level
   for each, and `apply` carries it out: preemptions, then shrinks, then growers and starters by
   decreasing target size (`deciding`).
   A start that finds no node, or a stop though another GPU type has room for the job's smallest
   size, brings the next decision at once; the first only where no earlier start of the job has
   found none since GPUs last came back.
4. A start after a stop and every resize or move costs `restart_s`, by level or one for
   all, without progress.

Where the rules leave something open, it reads them so:

* A stop that the scheduler did not ask for is no preemption in the counts.
* Work at different rates since the last checkpoint is lost as it was done, each part at its rate.
* A job whose parent ended badly ends then, or on its arrival if that is later.
* A job that becomes active at or after its time of cancellation is cancelled instead.
* A node under notice takes nobody, not even a job that it runs and that is resized.
* A node that goes down and comes back during the notice still takes nobody, and goes at the
  notice's end; so does one that is announced to go while it is down. Of several notices each
  has its end.
* Targets are cut to the GPUs of the whole cluster, up or down.
* At one instant there are at most eight decisions after the first.
* Under `repack`, a request that would exceed its tenant's quota is skipped.
* Under `overhead_each_epoch`, every decision is a restart of all running jobs but for their
  predicted ends; a job that reaches its end sooner than its work has finished all the same.
"""

from tests.reference.loop import Decide, simulate
from tests.reference.records import (
    Account,
    Epoch,
    ReferenceJob,
    ReferenceJobResult,
    ReferenceResult,
)
from tests.reference.rules import CANCELLED, FAILED, FINISHED, NodeEvent, Rules

__all__ = [
    "CANCELLED",
    "FAILED",
    "FINISHED",
    "Account",
    "Decide",
    "Epoch",
    "NodeEvent",
    "ReferenceJob",
    "ReferenceJobResult",
    "ReferenceResult",
    "Rules",
    "simulate",
]
