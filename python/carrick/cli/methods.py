"""``carrick methods``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from carrick.cli.output import fields, say, say_json, table, wrapped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.methods import Method


def methods(
    name: Annotated[str | None, typer.Argument(help="One method, with its parameters.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the merge methods, or explain one.

    With a name: formula, source, parameters with their defaults and ranges, variants.
    """
    from carrick import methods as known  # noqa: PLC0415
    from carrick.errors import ConfigError  # noqa: PLC0415
    from carrick.suggestions import nearest  # noqa: PLC0415

    everything = known.load()
    if name is None:
        if as_json:
            say_json([asdict(method) for method in everything.values()])
            return
        _list(everything)
        return
    if name not in everything:
        raise ConfigError(
            f"there is no method {name!r}{nearest(name, everything) or '; `carrick methods` lists them'}"
        )
    if as_json:
        say_json(asdict(everything[name]))
    else:
        _explain(everything[name])


def _list(everything: Mapping[str, Method]) -> None:
    rows = [[method.name, _base(method), _models(method), method.summary] for method in everything.values()]
    for line in table(["method", "base", "models", "what it does"], rows, sentence=3):
        say(line)


def _base(method: Method) -> str:
    """Whether there has to be a base, in two lines where it depends."""
    rule = method.base_rule.partition(":")[0].partition(",")[0]
    return rule.replace(" for ", " for\n")


def _models(method: Method) -> str:
    if method.max_models == method.min_models:
        return str(method.min_models)
    return (
        f"{method.min_models}+" if method.max_models is None else f"{method.min_models}-{method.max_models}"
    )


def _explain(method: Method) -> None:
    say(f"{method.name}: {method.title}")
    say()
    for line in wrapped(_plain_text(method.summary)):
        say(line)
    say()
    pairs = [
        ("formula", method.formula),
        ("source", method.source),
        ("base", _plain_text(method.base_rule)),
        ("models", f"{_models(method)}, the base not counted"),
        ("passes", method.passes),
    ]
    if method.ignored:
        pairs.append(("ignored", ", ".join(method.ignored)))
    for line in fields(pairs):
        say(line)
    for title, entries in (("parameters", _parameters(method)), ("variants", _variants(method))):
        if entries:
            say()
            say(title)
        for head, doc in entries:
            for line in wrapped(head, "  "):
                say(line)
            for line in wrapped(doc, "      "):
                say(line)


def _parameters(method: Method) -> list[tuple[str, str]]:
    reach = {"model": "per model", "global": "one for all models", "merge": "one for the merge"}
    return [
        (
            f"{p.name} ({reach[p.scope]}; {_plain_text(p.span)}; "
            + ("required" if p.required else f"default {_plain(p.default)}")
            + ")",
            _plain_text(p.doc),
        )
        for p in method.parameters
    ]


def _variants(method: Method) -> list[tuple[str, str]]:
    return [
        (
            variant.name + ("" if number else " (default)"),
            f"{variant.doc} " + ", ".join(f"{name}: {_plain(value)}" for name, value in variant.options),
        )
        for number, variant in enumerate(method.variants)
    ]


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain_text(text: str) -> str:
    return text.replace("`", "")
