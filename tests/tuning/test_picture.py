"""The interactive picture: everything in one file, with titles and a text for each point."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from marl_sched.tuning.pareto import AXES
from marl_sched.tuning.picture import draw_html


class Page(HTMLParser):
    """What a page has, and what it would load from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.title = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "title" and data.strip():
            self.title = self.title or data


def test_a_page_that_needs_no_network_names_every_point(tmp_path: Path) -> None:
    axes = [AXES["completion_time"], AXES["utilisation"]]
    table = [
        {
            "name": f"trial_{i}", "kind": kind, "avg_jct_s": 3600.0 * i, "gpu_useful_fraction": 0.5,
            "non_dominated": i == 1, "env.reward.fairness": 0.25,
        }
        for i, kind in ((1, "trained"), (2, "classic"))
    ]  # fmt: skip
    path = tmp_path / "tradeoff.html"
    draw_html(table, [(axes[0], axes[1])], path, "Weights of <this> & that", axes, "by number")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.loads == [] and page.title == "Weights of <this> & that"
    assert page.tags.count("script") >= 2 and "plotly.js v" in text
    drawn = text[text.rindex("Plotly.newPlot(") :]
    for words in (
        "trained, by number", "trial_1", "trial_2",
        "mean completion time, hours: 2", "useful share of GPU time, %: 50",
        "fairness 0.25", "mean completion time, hours (lower is better)",
        "useful share of GPU time, % (higher is better)",
    ):  # fmt: skip
        assert words in drawn
