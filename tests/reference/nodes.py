"""Nodes that come and go: by a random process of their own, and by given events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.reference.draws import NODE_FAILURES, exponential
from tests.reference.rules import HOUR, INF, NodeEvent, Rules


@dataclass
class ReferenceNode:
    """One node.

    `is_up`: its GPUs are there. `is_closed`: a reclaim was announced, so it takes nobody new.
    """

    index: int
    capacity: list[float]  # order of types.RESOURCES
    kind: int  # GPU type
    rack: int = 0
    is_up: bool = True
    is_closed: bool = False
    draws: int = 0  # events of its own process so far: even ones fail, odd ones repair
    own_event_at: float = INF
    own_kind: str = "down"
    given: list[NodeEvent] = field(default_factory=list)  # in order of time; kinds of `expand`

    @property
    def is_open(self) -> bool:
        return self.is_up and not self.is_closed

    @property
    def next_event_at(self) -> float:
        return min([self.own_event_at] + [event.time for event in self.given[:1]])

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
        """Take the next event; its own process comes first among events of one instant."""
        if self.given and self.given[0].time < self.own_event_at:
            return self.given.pop(0)
        event = NodeEvent(self.own_event_at, self.index, self.own_kind)
        self.draw(rules)
        return event


def expand(events: Sequence[NodeEvent], node: int) -> list[NodeEvent]:
    """The given events of a node with each reclaim as what it does: `closed`, then `gone`.

    A reclaim without notice is a `down`: nobody had the time to write a checkpoint.
    """
    simple: list[NodeEvent] = []
    for event in events:
        if event.node != node:
            continue
        if event.kind != "reclaim":
            simple.append(event)
        elif event.notice > 0.0:
            simple.append(NodeEvent(event.time, node, "closed"))
            simple.append(NodeEvent(event.time + event.notice, node, "gone"))
        else:
            simple.append(NodeEvent(event.time, node, "down"))
    return sorted(simple, key=lambda event: event.time)
