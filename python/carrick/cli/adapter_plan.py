"""What ``carrick plan`` and ``carrick merge --dry-run`` print of a merge of adapters."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from carrick.cli.output import count, fields, notes, say, shorten, table

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.adapters.merging.plan import AdapterPlan, PlannedModule

_SHOWN = 12
_BY_MODULE = "by module"
# The width of a tensor's name, of which two stand on a line.
_NAME = 36


def say_adapter_plan(plan: AdapterPlan, out: Path | None) -> None:
    """Print the adapters, the modules that come out of them, and what the merge takes."""
    for number, block in enumerate((_adapters(plan), _modules(plan), fields(_facts(plan, out)))):
        for line in ["", *block] if number else block:
            say(line)
    notes(plan.notes)


def _adapters(plan: AdapterPlan) -> list[str]:
    from carrick.memory import format_size  # noqa: PLC0415

    weighted = any(module.weights for module in plan.modules)
    names = list(
        dict.fromkeys([*(["weight"] if weighted else []), *(n for a in plan.adapters for n in a.parameters)])
    )
    rows = [
        [
            str(number),
            adapter.ref + (f"@{adapter.revision[:7]}" if adapter.revision else ""),
            f"{adapter.rank:,}",
            f"{adapter.modules:,}",
            ", ".join(adapter.dtypes),
            format_size(sum(adapter.dtypes.values())),
            *(_shown(adapter.parameters.get(name, _BY_MODULE)) for name in names),
        ]
        for number, adapter in enumerate(plan.adapters, 1)
    ]
    head = ["", "adapter", "rank", "modules", "dtype", "size", *names]
    return table(head, rows, numbers=[2, 3, 5, *range(6, len(head))])


def _modules(plan: AdapterPlan) -> list[str]:
    groups = Counter(_group(plan, module) for module in plan.modules)
    rows = [[kind, f"{number:,}", *rest] for (kind, *rest), number in groups.items()]
    lines = table(["module", "count", "ranks", "becomes", "ΔW", "dtype"], rows[:_SHOWN], numbers=[1, 2, 3])
    return lines + (
        [f"and {len(rows) - _SHOWN} kinds more; --json lists every module"] if rows[_SHOWN:] else []
    )


def _group(plan: AdapterPlan, module: PlannedModule) -> tuple[str, ...]:
    """Describe a module by what it shares with others that are alike."""
    kind = module.path.rpartition(".")[2] + ("" if module.kind == "linear" else f" ({module.kind})")
    becomes = f"{'' if plan.is_exact else '≤ '}{module.rank:,}" if module.rank else "left out"
    rows, columns = module.shape
    return kind, " ".join(map(str, module.ranks)), becomes, f"{rows:,} × {columns:,}", module.dtype


def _facts(plan: AdapterPlan, out: Path | None) -> list[tuple[str, str]]:
    from carrick.adapters.folder import WEIGHTS  # noqa: PLC0415
    from carrick.memory import format_size  # noqa: PLC0415
    from carrick.plan import free_bytes  # noqa: PLC0415

    most = "" if plan.is_exact else "at most "
    variant = f" ({plan.variant})" if plan.variant else ""
    where = " on A and B apart" if plan.space == "factors" else ""
    pairs = [("document", plan.document)] if plan.document else []
    pairs.append(("method", f"{plan.method}{variant}{where}"))
    if plan.options:
        listed = ", ".join(f"{name} {_shown(value)}" for name, value in plan.options.items())
        pairs.append(("options", listed))
    if plan.rank is not None or plan.energy is not None:
        pairs.append(("cut", f"rank {plan.rank}" if plan.rank is not None else f"{plan.energy:g} of Σσ²"))
    pairs.append(
        ("output", f"{count(plan.tensors, 'tensor')}, {most}{format_size(plan.bytes_written)} in {WEIGHTS}")
    )
    if plan.beside:
        more = f" and {len(plan.beside) - 2} more" if len(plan.beside) > 2 else ""
        named = ", ".join(shorten(name, _NAME) for name in plan.beside[:2])
        pairs.append(("beside", named + more))
    pairs.append(("read", f"{most}{format_size(plan.bytes_read)}"))
    if plan.scratch_bytes:
        pairs.append(
            ("in between", f"{most}{format_size(plan.scratch_bytes)} beside the output, until it is done")
        )
    if out is not None:
        pairs.append(("free disk", f"{format_size(free_bytes(out))} for {out}"))
    more = ", and what decompositions of the factors need" if plan.decomposes else ""
    pairs.append(("peak memory", f"about {format_size(plan.peak_bytes)} beyond the interpreter{more}"))
    return [*pairs, ("seed", str(plan.seed))]


def _shown(value: float | bool | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else value
