"""A plan as text for people, at most 100 columns wide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from carrick.finish import has_tokenizer
from carrick.plan.estimate import Estimate, estimate_of
from carrick.plan.output import free_bytes
from carrick.summary import copied_from

if TYPE_CHECKING:
    from rich.console import RenderableType

    from carrick.plan.job import Plan

WIDTH = 100
_SHOWN = 12
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def plan_text(plan: Plan, out: Path | str | None = None, estimate: Estimate | None = None) -> Group:
    """Describe a plan: its models, what each method does, its cost, decisions and notes.

    Parameters
    ----------
    plan
        The plan.
    out
        Output folder, to show the room on its disk.
    estimate
        What it costs, where that is known already.

    Returns
    -------
    Something to print with `rich.console.Console(width=min(console.width, 100))`.
    """
    cost = estimate or estimate_of(plan)
    parts: list[RenderableType] = [
        _models(plan),
        Text(),
        _methods(plan, cost),
        Text(),
        _facts(plan, cost, out),
    ]
    unmatched = plan.meta.get("unmatched") or []
    if unmatched:
        parts += [Text(), _unmatched(unmatched)]
    if plan.notes:
        parts += [
            Text(),
            Text("Notes", style="bold"),
            *(Text(f"- {note}", overflow="fold") for note in plan.notes),
        ]
    return Group(*parts)


def size_text(nbytes: float) -> str:
    """Bytes with a decimal unit.

    >>> size_text(812), size_text(5_000_000_000), size_text(16_060_522_496)
    ('812 B', '5.00 GB', '16.1 GB')
    """
    value, unit = float(nbytes), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    if unit == 0:
        return f"{int(value)} B"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {_UNITS[unit]}"


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )


def _row(table: Table, *cells: str, style: str | None = None) -> None:
    # As Text: names come from files, and a plain string is read as markup.
    table.add_row(*(Text(cell) for cell in cells), style=style)


def _models(plan: Plan) -> Table:
    table = _table("Models")
    table.add_column("")
    table.add_column("model", overflow="fold", max_width=52)
    table.add_column("type")
    table.add_column("dtype")
    table.add_column("size", justify="right")
    for model in plan.meta.get("models", []):
        dtypes: dict[str, int] = model["dtypes"]
        ordered = sorted(dtypes, key=lambda d: -dtypes[d])
        shown = ", ".join(ordered[:2]) + (", …" if len(ordered) > 2 else "")
        name = model["ref"] + (f"@{model['revision'][:7]}" if model["revision"] else "")
        # What stands before its name in a plan: a base that gives no weights, only its configuration.
        role = "config" if model["role"] == "donor" else model["role"]
        _row(table, role, name, model["kind"] or "-", shown, size_text(sum(dtypes.values())))
        for adapter in model.get("adapters", []):
            _adapter(table, adapter)
    return table


def _adapter(table: Table, adapter: dict[str, Any]) -> None:
    weight = "" if adapter["weight"] == 1.0 else f" × {adapter['weight']:g}"
    rank = f"rank {adapter['rank']}" if adapter["rank"] else "-"
    name = adapter["ref"] + (f"@{adapter['revision'][:7]}" if adapter["revision"] else "")
    dtypes: dict[str, int] = adapter["dtypes"]
    _row(table, "+ adapter", name + weight, rank, ", ".join(dtypes), size_text(sum(dtypes.values())))


def _methods(plan: Plan, cost: Estimate) -> Table:
    table = _table("What would run")
    table.add_column("method")
    for column in ("tensors", "read", "written", "passes"):
        table.add_column(column, justify="right")
    for share in cost.by_method:
        variant = plan.meta.get("variant")
        name = share.method + (f" ({variant})" if variant and share.method == plan.meta.get("method") else "")
        _row(
            table,
            name,
            str(share.tensors),
            size_text(share.bytes_read),
            size_text(share.bytes_written),
            str(share.passes),
        )
    if len(cost.by_method) > 1:
        _row(
            table,
            "all",
            str(len(plan.jobs)),
            size_text(cost.bytes_read),
            size_text(cost.bytes_written),
            "",
            style="bold",
        )
    return table


def _facts(plan: Plan, cost: Estimate, out: Path | str | None) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    shards = plan.shards
    files = shards[0].name if len(shards) == 1 else f"{len(shards)} shards and their index"
    if plan.meta.get("document"):
        _row(table, "document", plan.meta["document"])
    givers = copied_from(plan)
    if len(givers) > 1:
        listed = ", ".join(f"{count} from {name}" for name, count in givers.items())
        _row(table, "copied", f"{listed} (tensors)")
    _row(table, "output", f"{size_text(plan.bytes_written)} in {files}")
    if out is not None:
        _row(table, "free disk", f"{size_text(free_bytes(Path(out)))} for {out}")
    _row(table, "peak memory", f"about {size_text(cost.peak_bytes)} beyond the interpreter")
    _row(table, "time", f"about {duration_text(cost.seconds)} at 2 GB/s")
    dtype = plan.meta.get("dtype", {})
    if dtype.get("output"):
        _row(table, "dtype", f"{dtype['output']}, from {dtype['from']}; computed in float32")
    if plan.meta.get("tie") in ("tied", "untied"):
        _row(table, "embeddings", plan.meta["tie"])
    donor, tokenizer = plan.meta.get("donor"), plan.meta.get("tokenizer")
    if donor:
        _row(table, "config.json", f"from {donor['ref']}{_edits(plan)}")
    if tokenizer:
        held = has_tokenizer(Path(tokenizer["folder"]))
        _row(table, "tokenizer", f"from {tokenizer['ref']}" if held else f"none: {tokenizer['ref']} has none")
    _row(table, "seed", str(plan.seed))
    return table


def _edits(plan: Plan) -> str:
    edits = plan.meta.get("config_edits") or {}
    changed = [f"{k}: {'list rebuilt' if isinstance(v[1], list) else _arrow(v)}" for k, v in edits.items()]
    return f", with {'; '.join(changed)}" if changed else ", unchanged"


def _arrow(pair: list[object]) -> str:
    return f"{pair[0]} → {pair[1]}"


def duration_text(seconds: float) -> str:
    """Seconds in words.

    >>> duration_text(0.4), duration_text(75), duration_text(5400)
    ('1 s', '1 min 15 s', '1 h 30 min')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _unmatched(unmatched: list[dict[str, object]]) -> Table:
    table = _table(f"Tensors that not every model holds: {len(unmatched)}")
    table.add_column("tensor", overflow="fold")
    table.add_column("what happens to it", overflow="fold")
    for record in unmatched[:_SHOWN]:
        _row(table, str(record["tensor"]), str(record["action"]))
    if len(unmatched) > _SHOWN:
        _row(table, f"and {len(unmatched) - _SHOWN} more", "listed by --json")
    return table
