"""The acting networks in compiled code: what `network` computes, where no gradient is needed.

Torch spends some microseconds on each of its forty small operations; for 16 observations one
compiled pass takes a sixth of the time. Axes as in `network`, and R occupied slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from marl_sched.compiled.jit import kernel
from marl_sched.models.network import ILLEGAL_LOGIT, ActionNetwork, DuelingNetwork

ILLEGAL = np.float32(ILLEGAL_LOGIT)
ZERO = np.float32(0.0)


class Layers(NamedTuple):
    """Weights (in, out) and biases (out,) of an `ActionNetwork`, float32."""

    job_in: np.ndarray
    job_in_bias: np.ndarray
    job_out: np.ndarray
    job_out_bias: np.ndarray
    context_in: np.ndarray
    context_in_bias: np.ndarray
    context_out: np.ndarray
    context_out_bias: np.ndarray
    slot_from_job: np.ndarray
    slot_from_job_bias: np.ndarray
    slot_from_context: np.ndarray
    slot_head: np.ndarray
    slot_head_bias: np.ndarray
    round_head: np.ndarray
    round_head_bias: np.ndarray


@kernel
def dense(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """max(0, x @ weight + bias), (N, out)."""
    out = np.dot(x, weight)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = max(ZERO, out[i, j] + bias[j])
    return out


@kernel
def gather(jobs: np.ndarray, first: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Features (R, F) of occupied slots.

    Args:
        first: (B+1,) int64, overwritten: rows [first[b], first[b+1]) are observation b's.
        slot: (B K,) int64, overwritten: the slot of each row.
    """
    count = 0
    for b in range(jobs.shape[0]):
        first[b] = count
        for k in range(jobs.shape[1]):
            if jobs[b, k, 0] != ZERO:
                slot[count] = k
                count += 1
    first[-1] = count
    rows = np.empty((count, jobs.shape[2]), np.float32)
    for b in range(jobs.shape[0]):
        for r in range(first[b], first[b + 1]):
            rows[r] = jobs[b, slot[r]]
    return rows


@kernel
def pool(
    embedded: np.ndarray,
    first: np.ndarray,
    plain: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """Mean and highest of each observation's rows, and its plain features: (B, 2H + ..)."""
    batch, width = first.size - 1, embedded.shape[1]
    start = 2 * width
    out = np.zeros((batch, start + plain[0].shape[1] + plain[1].shape[1] + plain[2].shape[1]),
                   np.float32)  # fmt: skip
    for b in range(batch):
        for r in range(first[b], first[b + 1]):
            for j in range(width):
                out[b, j] += embedded[r, j]
                out[b, width + j] = max(out[b, width + j], embedded[r, j])
        count = np.float32(max(1, first[b + 1] - first[b]))
        for j in range(width):
            out[b, j] /= count
        at = start
        for part in plain:
            out[b, at : at + part.shape[1]] = part[b]
            at += part.shape[1]
    return out


@kernel
def write_scores(
    net: Layers,
    jobs: np.ndarray,
    plain: tuple[np.ndarray, np.ndarray, np.ndarray],
    scores: np.ndarray,
) -> np.ndarray:
    """Overwrite scores (B, M) with the `ActionNetwork`'s; its context (B, D)."""
    batch, num_slots = jobs.shape[0], jobs.shape[1]
    first = np.empty(batch + 1, np.int64)
    slot = np.empty(batch * num_slots, np.int64)
    rows = gather(jobs, first, slot)
    embedded = dense(dense(rows, net.job_in, net.job_in_bias), net.job_out, net.job_out_bias)
    context = dense(pool(embedded, first, plain), net.context_in, net.context_in_bias)
    context = dense(context, net.context_out, net.context_out_bias)
    hidden = np.dot(embedded, net.slot_from_job)
    shared = np.dot(context, net.slot_from_context)
    for b in range(batch):
        for j in range(shared.shape[1]):
            shared[b, j] += net.slot_from_job_bias[j]
        for r in range(first[b], first[b + 1]):
            for j in range(shared.shape[1]):
                hidden[r, j] = max(ZERO, hidden[r, j] + shared[b, j])
    moves = np.dot(hidden, net.slot_head)
    rounds = np.dot(context, net.round_head)
    up = rounds.shape[1]
    scores[:, up:] = ZERO
    for b in range(batch):
        for j in range(up):
            scores[b, j] = rounds[b, j] + net.round_head_bias[j]
        for r in range(first[b], first[b + 1]):
            scores[b, up + slot[r]] = moves[r, 0] + net.slot_head_bias[0]
            scores[b, up + num_slots + slot[r]] = moves[r, 1] + net.slot_head_bias[1]
    return context


@kernel
def logits_of(
    net: Layers,
    jobs: np.ndarray,
    plain: tuple[np.ndarray, np.ndarray, np.ndarray],
    mask: np.ndarray,
) -> np.ndarray:
    """(B, M): `network.masked_logits` of the scores."""
    out = np.empty(mask.shape, np.float32)
    write_scores(net, jobs, plain, out)
    for b in range(mask.shape[0]):
        others = 0
        for a in range(mask.shape[1]):
            if mask[b, a] <= 0:
                out[b, a] = ILLEGAL
            elif a > 0:
                others += 1
        out[b, 0] += np.float32(np.log(max(1, others)))
    return out


@kernel
def q_values_of(
    net: Layers,
    value: tuple[np.ndarray, np.ndarray],
    jobs: np.ndarray,
    plain: tuple[np.ndarray, np.ndarray, np.ndarray],
    mask: np.ndarray,
) -> np.ndarray:
    """(B, M): what `DuelingNetwork` computes; `value` its weight (D,) and bias (1,)."""
    out = np.empty(mask.shape, np.float32)
    context = write_scores(net, jobs, plain, out)
    for b in range(mask.shape[0]):
        legal, total = 0, ZERO
        for a in range(mask.shape[1]):
            if mask[b, a] > 0:
                legal += 1
                total += out[b, a]
        offset = value[1][0] - total / np.float32(max(1, legal))
        for j in range(context.shape[1]):
            offset += value[0][j] * context[b, j]
        for a in range(mask.shape[1]):
            out[b, a] = out[b, a] + offset if mask[b, a] > 0 else np.float32(-np.inf)
    return out


class Forward:
    """The compiled pass of one `ActionNetwork` or `DuelingNetwork`.

    Its weights are views of the network's parameters in main memory: what an optimiser or a
    loaded state writes there is seen at once.
    """

    def __init__(self, network: nn.Module) -> None:
        self._value: tuple[np.ndarray, np.ndarray] | None = None
        actions = network
        if isinstance(network, DuelingNetwork):
            self._value = view(network.state_value.weight)[0], view(network.state_value.bias)
            actions = network.actions
        assert isinstance(actions, ActionNetwork)
        self._layers = layers_of(actions)
        self._parameter = next(network.parameters())
        self._address = self._parameter.data_ptr()

    def is_current(self) -> bool:
        """Whether the parameters are where they were, not moved to another device."""
        return self._parameter.data_ptr() == self._address

    def __call__(self, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        """(B, M) float32, masked logits or Q values, of observations {name: (B, ..)}."""
        jobs = np.ascontiguousarray(obs["jobs"], np.float32)
        globals_, cluster, weights = (
            np.ascontiguousarray(obs[name], np.float32)
            for name in ("globals", "cluster", "weights")
        )
        mask = np.ascontiguousarray(obs["mask"], np.int8)
        plain = (globals_, cluster, weights)
        if self._value is None:
            return logits_of(self._layers, jobs, plain, mask)
        return q_values_of(self._layers, self._value, jobs, plain, mask)


def layers_of(network: ActionNetwork) -> Layers:
    """Views of the parameters, in the order of `Layers`."""
    encoder = network.encoder
    linear = [encoder.job[0], encoder.job[2], encoder.context[0], encoder.context[2],
              network.slot_from_job, network.slot_from_context, network.slot_head,
              network.round_head]  # fmt: skip
    found = []
    for layer in linear:
        assert isinstance(layer, nn.Linear)
        found.append(view(layer.weight).T)
        if layer.bias is not None:
            found.append(view(layer.bias))
    return Layers(*found)


def view(parameter: Tensor) -> np.ndarray:
    return parameter.detach().numpy()
