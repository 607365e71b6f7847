"""Write the tables of docs/methods.md from the table of methods; `--check` only says whether they are up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from carrick import _core
from carrick import methods as table

PAGE = Path(__file__).resolve().parent / "methods.md"
BEGIN = "<!-- generated from the table of methods by `make docs`: begin -->"
END = "<!-- generated: end -->"
SCOPES = {"model": "model", "global": "all models", "merge": "whole merge"}


def _models(method: dict[str, Any]) -> str:
    low, high = method["min_models"], method["max_models"]
    if low == high:
        return str(low)
    return f"{low} or more" if high is None else f"{low} to {high}"


def _number(value: object) -> str:
    return (
        f"{value:g}"
        if isinstance(value, float)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def _base(method: dict[str, Any]) -> str:
    return table.get(method["name"]).base_rule


def _range(parameter: dict[str, Any]) -> str:
    if parameter.get("choices"):
        return ", ".join(f"`{choice}`" for choice in parameter["choices"])
    if parameter["type"] == "bool":
        return "`true`, `false`"
    low, high = parameter.get("min"), parameter.get("max")
    if low is None and high is None:
        return "finite"
    if high is None:
        return f"{_number(low)} or more"
    return f"{_number(low)} to {_number(high)}"


def _default(parameter: dict[str, Any]) -> str:
    return "required" if parameter["required"] else f"`{_number(parameter['default'])}`"


def overview(methods: list[dict[str, Any]]) -> list[str]:
    """Return the table of all methods."""
    lines = ["| method | what it does | base | models |", "|---|---|---|---|"]
    for method in methods:
        base = _base(method).partition(":")[0]
        name = method["name"]
        lines.append(f"| [`{name}`](#{name}) | {method['summary']} | {base} | {_models(method)} |")
    return lines


def variants(method: dict[str, Any]) -> list[str]:
    """Return the table of a method's variants."""
    rows = method["variants"]
    if not rows:
        return []
    options = list(dict.fromkeys(name for row in rows for name, _ in row["options"]))
    lines = [
        "",
        "| variant | " + " | ".join(f"`{name}`" for name in options) + " | |",
        "|---" * (len(options) + 2) + "|",
    ]
    for row in rows:
        values = dict(row["options"])
        chosen = [f"`{_number(values[name])}`" if name in values else "default" for name in options]
        cells = [f"`{row['name']}`", *chosen, row["doc"]]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def section(method: dict[str, Any]) -> list[str]:
    """Return what there is to say about one method."""
    lines = [
        "",
        f"### {method['name']}",
        "",
        f"**{method['title']}.** {method['summary']}",
        "",
        f"    {method['formula']}",
        "",
        f"Source: <{method['source']}>. Base: {_base(method)}. Models beside it: {_models(method)}. "
        f"Passes over the inputs: {method['passes']}.",
    ]
    if method["parameters"]:
        lines += ["", "| parameter | for | default | values | |", "|---|---|---|---|---|"]
        lines += [
            f"| `{p['name']}` | {SCOPES[p['scope']]} | {_default(p)} | {_range(p)} | {p['doc']} |"
            for p in method["parameters"]
        ]
    lines += variants(method)
    if method["ignored"]:
        ignored = ", ".join(f"`{name}`" for name in method["ignored"])
        lines += ["", f"Accepted with a note, because it changes nothing: {ignored}."]
    return lines


def page(current: str) -> str:
    """Return the page with its generated part renewed."""
    methods = json.loads(_core.methods())
    text = "\n".join([*overview(methods), *(line for method in methods for line in section(method))])
    before, rest = current.split(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Rewrite the page, or with `--check` fail where it is out of date."""
    current = PAGE.read_text(encoding="utf-8")
    wanted = page(current)
    if "--check" in sys.argv[1:]:
        sys.exit("docs/methods.md is out of date: run `make docs`" if wanted != current else 0)
    PAGE.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
