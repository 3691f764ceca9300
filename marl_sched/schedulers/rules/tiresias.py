"""Tiresias: discretised two-dimensional least attained service."""

from marl_sched.compiled.jit import kernel, part
from marl_sched.schedulers.mechanisms.serving import asked_level
from marl_sched.types import ClusterView, Floats1


@kernel
def counted_service(v: ClusterView, i: int, promote: float) -> float:
    """GPU-seconds that count against job `i`: from zero again in a run that it was promoted to.

    A job is promoted when it has waited, since its last preemption, at least `promote` times
    as long as it had run. It then keeps the fresh account until it is preempted.
    """
    attained = v.attained_gpu_s[i]
    if promote <= 0.0 or attained <= 0.0:
        return attained
    fresh, waited = 0.0, v.now_s - v.waiting_since_s[i]
    if v.level[i] > 0:
        fresh = (v.now_s - v.run_since_s[i]) * v.sizes[v.profile[i], v.level[i]]
        waited = v.run_since_s[i] - v.waiting_since_s[i]
    earlier = attained - fresh
    if earlier > 0.0 and waited * v.sizes[v.profile[i], asked_level(v, i)] >= promote * earlier:
        return fresh
    return attained


@part
def tiresias(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """Jobs by queue of attained service (GPU-seconds held), by arrival within a queue.

    A job drops from queue 0 to 1 at `limit_1_gpu_s` and to 2 at `limit_2_gpu_s`. Preemptive;
    needs no estimates; who does not fit is passed over. Source: Gu et al., "Tiresias", NSDI
    2019 (Tiresias-L). Deviations: a queue is ordered by arrival and not by entry into it; a
    promoted job that is preempted again is back in the queue of all its service, where theirs
    counts from the promotion on; service includes the GPU-seconds of restarts.

    Args:
        params: (limit_1_gpu_s, limit_2_gpu_s, promote): `promote` is their PROMOTEKNOB, the
            wait over the run time at which a starving job goes back to queue 0; 0 means never.
        key: (A,) float64, the queue, smaller runs first.
    """
    for i in range(v.job.size):
        service = counted_service(v, i, params[2])
        # At a limit the quantum is spent. Ties go by job index, that is by arrival.
        key[i] = 0.0
        if service >= params[0]:
            key[i] = 2.0 if service >= params[1] else 1.0
