"""Networks as ONNX graphs, operator by operator; `parity` holds them to what runs here.

Built directly: torch's exporters would need a further library and cannot follow the networks'
picking of occupied slots. Sizes of the batch and numbers of jobs stay open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from marl_sched.models.network import ILLEGAL_LOGIT
from marl_sched.models.policy import LearnedPolicy
from marl_sched.schedulers.learned.scorer import (
    BIAS,
    GLOBAL_FEATURES,
    HIDDEN,
    JOB_FEATURES,
    LAST,
    LEVEL_FEATURES,
)
from marl_sched.schedulers.learned.scorer_file import ScorerRecord

OPSET = 18
IR_VERSION = 9
"""The oldest that knows the opset: runtimes refuse newer ones than theirs."""


class GraphBuilder:
    """Nodes and constants of a graph; every method returns the name of its result."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def input(self, name: str, dtype: type, *shape: int | str) -> str:
        self.inputs.append(_value(name, dtype, shape))
        return name

    def output(self, value: str, name: str, dtype: type, *shape: int | str) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(_value(name, dtype, shape))

    def constant(self, array: Any, dtype: type) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(array, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """A node; the name of its result, or a list of them where there are several."""
        from onnx import helper

        names = [f"n{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def unsqueeze(self, value: str, *axes: int) -> str:
        return str(self.add("Unsqueeze", value, self.constant(axes, np.int64)))

    def total(self, operator: str, value: str, axis: int, keep: bool = True) -> str:
        """ReduceSum or ReduceMax over one axis."""
        axes = self.constant([axis], np.int64)
        return str(self.add(operator, value, axes, keepdims=int(keep)))

    def dense(self, value: str, weight: np.ndarray, bias: np.ndarray | None, relu: bool) -> str:
        """value @ weight.T + bias as of a torch `Linear`, float32."""
        out = self.add("MatMul", value, self.constant(weight.T, np.float32))
        if bias is not None:
            out = self.add("Add", out, self.constant(bias, np.float32))
        return str(self.add("Relu", out) if relu else out)

    def model(self) -> Any:
        """The finished `ModelProto`, checked."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="marl_sched"
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _value(name: str, dtype: type, shape: Sequence[int | str]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape)
    )


def scorer_graph(record: ScorerRecord) -> Any:
    """The network of a scorer: what it adds to the index's score of each level of a decision.

    Inputs `globals` (G,), `jobs` (J, F), `levels` (R, E) float32 and `owner` (R,) int64, the job
    of each level; output `residual` (R,) float32; see `schedulers.learned.scorer`.
    """
    g = GraphBuilder("scorer")
    net = np.array(record.weights)
    first = net[:BIAS].reshape(-1, HIDDEN)
    of_globals, of_jobs, of_levels = np.split(
        first, np.cumsum([len(GLOBAL_FEATURES), len(JOB_FEATURES)])
    )
    globals_ = g.input("globals", np.float32, len(GLOBAL_FEATURES))
    jobs = g.input("jobs", np.float32, "job", len(JOB_FEATURES))
    levels = g.input("levels", np.float32, "step", len(LEVEL_FEATURES))
    owner = g.input("owner", np.int64, "step")
    shared = g.add("MatMul", globals_, g.constant(of_globals, np.float32))
    shared = g.add("Add", shared, g.constant(net[BIAS:LAST], np.float32))
    own = g.add("Add", g.add("MatMul", jobs, g.constant(of_jobs, np.float32)), shared)
    z = g.add("MatMul", levels, g.constant(of_levels, np.float32))
    z = g.add("Add", z, g.add("Gather", own, owner, axis=0))
    # tanh as `scorer.residuals` has it: x (27 + x^2) / (27 + 9 x^2) within +-3.
    bounds = (g.constant(-3.0, np.float32), g.constant(3.0, np.float32))
    x = g.add("Clip", z, *bounds)
    square = g.add("Mul", x, x)
    above = g.add("Mul", x, g.add("Add", square, g.constant(27.0, np.float32)))
    below = g.add("Mul", square, g.constant(9.0, np.float32))
    below = g.add("Add", below, g.constant(27.0, np.float32))
    last = g.constant(net[LAST : LAST + HIDDEN], np.float32)
    g.output(g.add("MatMul", g.add("Div", above, below), last), "residual", np.float32, "step")
    return g.model()


def network_graph(policy: LearnedPolicy) -> Any:
    """The acting network of a PPO or DQN scheduler, see `models.network`.

    Inputs `jobs` (B, K, F), `globals`, `cluster`, `weights` float32 and `mask` (B, M) int8;
    outputs `scores` (B, M) float32, masked logits or Q values, and `action` (B,) int64, the
    greedy one: always commit where no network did better than the base schedule, and where a single
    algorithm was better that one, as long as it is legal.
    """
    sizes, algo = policy.manifest.sizes, policy.manifest.algo
    state = policy.state()
    g = GraphBuilder(algo)
    jobs = g.input("jobs", np.float32, "batch", "slot", sizes["job_features"])
    plain = [
        g.input(name, np.float32, "batch", sizes[key])
        for name, key in (
            ("globals", "global_features"),
            ("cluster", "cluster_features"),
            ("weights", "weight_features"),
        )
    ]
    mask = g.input("mask", np.int8, "batch", "action")
    prefix = "actions." if algo == "dqn" else ""
    actions = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    scores, context = _action_scores(g, actions, jobs, plain)
    legal = g.add("Cast", mask, to=_bool())
    number = g.add("Cast", mask, to=_float())
    if algo == "ppo":
        scores = _masked_logits(g, scores, legal, number)
    else:
        scores = _q_values(g, scores, context, legal, number, state)
    action = g.add("ArgMax", scores, axis=-1, keepdims=0)
    if policy.manifest.is_base:
        action = g.add("Mul", action, g.constant(0, np.int64))
    elif policy.manifest.plays is not None:
        plays = g.constant(policy.manifest.plays, np.int64)
        may = g.add("Cast", g.add("Gather", mask, plays, axis=1), to=_int64())  # (B,)
        action = g.add("Mul", may, plays)
    g.output(scores, "scores", np.float32, "batch", "action")
    g.output(action, "action", np.int64, "batch")
    return g.model()


def _action_scores(
    g: GraphBuilder, state: dict[str, np.ndarray], jobs: str, plain: list[str]
) -> tuple[str, str]:
    """`ActionNetwork`: scores (B, M), 0 for moves of empty slots, and the context (B, D)."""

    def dense(value: str, layer: str, relu: bool = True) -> str:
        return g.dense(value, state[f"{layer}.weight"], state.get(f"{layer}.bias"), relu)

    first, second = g.constant([0], np.int64), g.constant([1], np.int64)
    occupied = g.add("Slice", jobs, first, second, g.constant([2], np.int64))  # (B,K,1)
    embedded = dense(dense(jobs, "encoder.job.0"), "encoder.job.2")
    shown = g.add("Mul", embedded, occupied)
    count = g.add("Max", g.total("ReduceSum", occupied, 1, keep=False), g.constant(1.0, np.float32))
    mean = g.add("Div", g.total("ReduceSum", shown, 1, keep=False), count)
    highest = g.total("ReduceMax", shown, 1, keep=False)
    context = g.add("Concat", mean, highest, *plain, axis=-1)
    context = dense(dense(context, "encoder.context.0"), "encoder.context.2")
    shared = g.unsqueeze(dense(context, "slot_from_context", relu=False), 1)
    hidden = g.add("Relu", g.add("Add", dense(embedded, "slot_from_job", relu=False), shared))
    moves = g.add("Mul", dense(hidden, "slot_head", relu=False), occupied)  # (B,K,2)
    moves = g.add("Transpose", moves, perm=[0, 2, 1])
    flat = g.add("Reshape", moves, g.constant([0, -1], np.int64))
    scores = g.add("Concat", dense(context, "round_head", relu=False), flat, axis=-1)
    return str(scores), str(context)


def _masked_logits(g: GraphBuilder, scores: str, legal: str, number: str) -> str:
    """`network.masked_logits`: commit weighed by the number of other legal actions."""
    masked = g.add("Where", legal, scores, g.constant(ILLEGAL_LOGIT, np.float32))
    start, one = g.constant([0], np.int64), g.constant([1], np.int64)
    axis, end = g.constant([-1], np.int64), g.constant([np.iinfo(np.int64).max], np.int64)
    commit = g.add("Slice", masked, start, one, axis)
    others = g.add("Slice", masked, one, end, axis)
    count = g.total("ReduceSum", g.add("Slice", number, one, end, axis), -1)
    bonus = g.add("Log", g.add("Max", count, g.constant(1.0, np.float32)))
    return str(g.add("Concat", g.add("Add", commit, bonus), others, axis=-1))


def _q_values(
    g: GraphBuilder,
    advantage: str,
    context: str,
    legal: str,
    number: str,
    state: dict[str, np.ndarray],
) -> str:
    """`DuelingNetwork`: Q values (B, M), illegal actions at -inf."""
    one = g.constant(1.0, np.float32)
    count = g.add("Max", g.total("ReduceSum", number, -1), one)
    mean = g.add("Div", g.total("ReduceSum", g.add("Mul", advantage, number), -1), count)
    value = g.dense(context, state["state_value.weight"], state["state_value.bias"], relu=False)
    q_values = g.add("Add", advantage, g.add("Sub", value, mean))
    return str(g.add("Where", legal, q_values, g.constant(-np.inf, np.float32)))


def _bool() -> int:
    from onnx import TensorProto

    return int(TensorProto.BOOL)


def _int64() -> int:
    from onnx import TensorProto

    return int(TensorProto.INT64)


def _float() -> int:
    from onnx import TensorProto

    return int(TensorProto.FLOAT)
