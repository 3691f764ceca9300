"""What happens at an instant before anybody decides: ends, failures, nodes, arrivals."""

from __future__ import annotations

import math

from tests.reference.nodes import ReferenceNode
from tests.reference.placing import drop
from tests.reference.records import ReferenceJob
from tests.reference.rules import CANCELLED, FAILED, FINISHED, INF
from tests.reference.world import ReferenceWorld


def happen(world: ReferenceWorld) -> None:
    """All that is due by now, in the order of the rules."""
    for job in [job for job in world.active if job.finish_at <= world.now]:
        job.remaining = 0.0
        end(world, job, FINISHED, "finish")
    for job in [job for job in world.running if job.fail_at <= world.now]:
        fail(world, job)
    for job in [job for job in world.active if job.cancel_at <= world.now]:
        end(world, job, CANCELLED, "cancelled")
    for node in world.nodes:
        while node.next_event_at <= world.now:
            node_event(world, node)
    arrivals(world)


def next_instant(world: ReferenceWorld) -> float:
    """When something happens next by itself."""
    times = [job.arrival for job in world.jobs if not job.has_arrived]
    for job in world.active:
        times += [job.finish_at, job.fail_at, job.cancel_at]
    return min(times + [node.next_event_at for node in world.nodes])


def end(world: ReferenceWorld, job: ReferenceJob, status: int, kind: str) -> None:
    job.status = status
    job.finish = world.now
    job.level = 0
    job.finish_at = job.fail_at = job.cancel_at = INF
    if job.placement:
        world.release()
    drop(job)
    if job in world.active:
        world.active.remove(job)
    world.log(kind, job)


def stop(world: ReferenceWorld, job: ReferenceJob, abruptly: bool) -> None:
    """The job holds nothing from now on, and waits."""
    if abruptly:
        lose(world, job)
    job.fail_budget = job.fail_at - world.now if job.fail_at < INF else INF
    job.level = 0
    job.rate = 0.0
    job.finish_at = job.fail_at = INF
    job.waiting_since = world.now
    job.run_since = math.nan
    job.worked = []
    drop(job)
    world.release()


def lose(world: ReferenceWorld, job: ReferenceJob) -> None:
    """Undo the work since the last checkpoint of the current placement."""
    if job.checkpoint_interval == 0.0:
        return
    seconds = max(0.0, world.now - job.resume_at)
    kept = math.floor(seconds / job.checkpoint_interval) * job.checkpoint_interval
    gpu_s = (seconds - kept) * world.gpus(job, job.level)
    job.lost += gpu_s
    job.productive -= gpu_s
    undo = seconds - kept
    for seconds, rate in reversed(job.worked):
        job.remaining += rate * min(seconds, undo)
        undo -= min(seconds, undo)


def fail(world: ReferenceWorld, job: ReferenceJob) -> None:
    stop(world, job, abruptly=True)
    job.retries += 1
    job.fail_budget = world.time_to_failure(job)
    if job.retries > job.max_retries:
        end(world, job, FAILED, "failed")
    else:
        world.log("fail", job)


def node_event(world: ReferenceWorld, node: ReferenceNode) -> None:
    """A node goes (down, or gone after notice), is announced to go (reclaim), or comes back.

    A reclaim without notice is a `down`: nobody had the time to write a checkpoint.
    """
    event = node.pop_event(world.rules)
    if event.kind == "gone":
        node.notices = [end for end in node.notices if end > event.time]
    if event.kind == "reclaim" and event.notice > 0.0:
        node.notices.append(event.time + event.notice)
        world.node_events.append((world.now, "closed", node.index))
    elif node.is_up == (event.kind == "up"):
        return
    elif event.kind == "up":
        node.is_up = True
        if node.is_open:  # not under notice: then its GPUs are for nobody
            world.release()
        world.node_events.append((world.now, "up", node.index))
    else:
        go(world, node, gracefully=event.kind == "gone")


def go(world: ReferenceWorld, node: ReferenceNode, gracefully: bool) -> None:
    node.is_up = False
    world.node_events.append((world.now, "gone" if gracefully else "down", node.index))
    for job in [job for job in world.running if node.index in job.placement]:
        stop(world, job, abruptly=not gracefully)
        world.log("evict", job)


def arrivals(world: ReferenceWorld) -> None:
    """Jobs that have arrived and whose parents have ended become active, or end at once."""
    for job in world.jobs:
        job.has_arrived = job.arrival <= world.now
    changed = True
    while changed:  # a job that is cancelled here takes its children with it
        changed = False
        for job in world.jobs:
            if job.status != 0 or job in world.active or not job.has_arrived:
                continue
            parents = [world.jobs[p].status for p in job.parents]
            if FAILED in parents or CANCELLED in parents:
                end(world, job, CANCELLED, "cancelled")
                changed = True
            elif all(status == FINISHED for status in parents):
                changed = True
                activate(world, job)


def activate(world: ReferenceWorld, job: ReferenceJob) -> None:
    if job.cancel_at <= world.now:
        end(world, job, CANCELLED, "cancelled")
        return
    job.waiting_since = world.now
    world.active.append(job)
    world.active.sort(key=lambda job: job.index)
    world.log("arrive", job)
