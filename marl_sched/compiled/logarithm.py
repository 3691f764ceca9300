"""Natural logarithms of whole arrays, several at once where the processor can.

The library's own takes one number at a time; observations and index scores need hundreds for
each decision.
"""

from __future__ import annotations

import numpy as np

from marl_sched.compiled.jit import kernel

LN2 = float(np.log(2.0))
SQRT_HALF_BITS = int(np.float64(np.sqrt(0.5)).view(np.int64))


@kernel
def log_each(x: np.ndarray) -> None:
    """Replace x (n,) float64, all normal, finite and > 0, by log x, within 1e-15 relative.

    x = m 2^k with m in [sqrt 1/2, sqrt 2): log x = k log 2 + 2 artanh s, s = (m - 1) / (m + 1),
    where s^2 < 0.0295 and ten terms of the series suffice.
    """
    for i in range(x.size):
        bits = np.float64(x[i]).view(np.int64)
        k = (bits - SQRT_HALF_BITS) >> 52
        m = np.int64(bits - (k << 52)).view(np.float64)
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        series = 1.0 / 19.0
        series = series * z + 1.0 / 17.0
        series = series * z + 1.0 / 15.0
        series = series * z + 1.0 / 13.0
        series = series * z + 1.0 / 11.0
        series = series * z + 1.0 / 9.0
        series = series * z + 1.0 / 7.0
        series = series * z + 1.0 / 5.0
        series = series * z + 1.0 / 3.0
        x[i] = k * LN2 + 2.0 * s * (1.0 + z * series)
