"""A random order: the floor that any rule should clear."""

from marl_sched.compiled.jit import kernel, part
from marl_sched.types import ClusterView, Floats1


@kernel
def mix(x: int) -> int:
    """A 32-bit integer hash (xor, multiply, shift), good enough to shuffle with."""
    x = x & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return x ^ (x >> 16)


@part
def random(v: ClusterView, params: Floats1, key: Floats1) -> None:
    """Waiting jobs in an order drawn anew at each epoch; who does not fit is passed over.

    Not preemptive. The draw is a hash of seed, time and job: equal inputs, equal answers.

    Args:
        params: (seed,).
    """
    salt = mix(int(params[0]) * 7919 + int(v.now_s))
    for i in range(v.job.size):
        key[i] = mix(v.job[i] ^ salt)
