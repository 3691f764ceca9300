"""`marl-sched settings`: every setting with its default and meaning."""

from __future__ import annotations

from pydantic import BaseModel


def settings() -> None:
    """List every setting that --set and --config take."""
    from rich.table import Table

    from marl_sched.cli.tables import out
    from marl_sched.config import Config

    table = Table(box=None, pad_edge=False)
    table.add_column("setting", no_wrap=True)
    table.add_column("default")
    table.add_column("meaning")
    for key, default, meaning in _rows(Config(), ""):
        table.add_row(key, default, meaning)
    out.print(table, highlight=False)


def _rows(section: BaseModel, prefix: str) -> list[tuple[str, str, str]]:
    rows = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            rows += _rows(value, f"{prefix}{name}.")
        else:
            meaning = " ".join((field.description or "").split())
            shown = "none" if value is None else str(value)
            rows.append((prefix + name, shown, meaning))
    return rows
