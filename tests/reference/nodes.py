"""Nodes that come and go: by a random process of their own, and by given events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.reference.draws import NODE_FAILURES, exponential
from tests.reference.rules import HOUR, INF, NodeEvent, Rules


@dataclass
class ReferenceNode:
    """One node.

    `is_up`: its GPUs are there. While a notice runs it takes nobody new, whatever happens to it.
    """

    index: int
    capacity: list[float]  # order of types.RESOURCES
    kind: int  # GPU type
    rack: int = 0
    is_up: bool = True
    notices: list[float] = field(default_factory=list)  # when each that runs is over
    draws: int = 0  # events of its own process so far: even ones fail, odd ones repair
    own_event_at: float = INF
    own_kind: str = "down"
    given: list[NodeEvent] = field(default_factory=list)  # in order of time

    @property
    def is_open(self) -> bool:
        return self.is_up and not self.notices

    @property
    def gone_at(self) -> float:
        return min(self.notices, default=INF)

    @property
    def next_event_at(self) -> float:
        return min([self.own_event_at, self.gone_at] + [event.time for event in self.given[:1]])

    def draw(self, rules: Rules) -> None:
        """The next event of the node's own process, after the one that has just happened."""
        if rules.node_mtbf_h == INF:
            return
        fails = self.draws % 2 == 0
        mean = (rules.node_mtbf_h if fails else rules.node_mttr_h) * HOUR
        before = 0.0 if self.draws == 0 else self.own_event_at
        wait = exponential(mean, rules.seed, NODE_FAILURES, self.index, self.draws)
        self.own_event_at = before + wait
        self.own_kind = "down" if fails else "up"
        self.draws += 1

    def pop_event(self, rules: Rules) -> NodeEvent:
        """Take the next event: of one instant the given ones first, those of its own last."""
        t = self.next_event_at
        if self.given and self.given[0].time == t:
            return self.given.pop(0)
        if self.gone_at == t:
            return NodeEvent(t, self.index, "gone")
        event = NodeEvent(t, self.index, self.own_kind)
        self.draw(rules)
        return event


def given_to(events: Sequence[NodeEvent], node: int) -> list[NodeEvent]:
    """The given events of a node, by time."""
    return sorted((event for event in events if event.node == node), key=lambda event: event.time)
