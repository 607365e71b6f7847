"""The model card: what was merged, from what, with which numbers. No times, no paths of this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from carrick import __version__
from carrick.names import full_name, public_name, without_paths
from carrick.provenance import named_models, real_models
from carrick.summary import options_by_method, parameters_by_model, plain

if TYPE_CHECKING:
    from carrick.plan import Plan


def model_card(plan: Plan) -> str:
    """Text of the output's README.md: front matter for the Hub, table of models, options, configuration."""
    meta = plan.meta
    parts = [
        _front_matter(plan),
        f"# {_title(plan)}",
        f"A merge of {_listing([full_name(model) for model in _merged(meta)])} by `{meta['method']}`"
        + (f" (variant `{meta['variant']}`)" if meta["variant"] else "")
        + f", made with Carrick {__version__}."
        + _intermediates(meta),
        "## Models",
        _models(plan),
        "## Options",
        _options(plan),
        "## Configuration",
        f"```yaml\n{without_paths(meta['yaml'], named_models(meta)).strip()}\n```",
        "`carrick.json` records the inputs and the checksum of every tensor.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(plan: Plan) -> str:
    lines = ["---"]
    models = real_models(plan.meta)
    names = dict.fromkeys(public_name(one) for model in models for one in (model, *model.get("adapters", [])))
    # A JSON string is a YAML string: names with colons or hashes stay whole.
    lines += ["base_model:", *(f"- {json.dumps(name)}" for name in names)]
    if plan.meta["config_json"] is not None:
        lines.append("library_name: transformers")
    lines += ["tags:", "- merge", "- carrick", "---"]
    return "\n".join(lines)


def _title(plan: Plan) -> str:
    return str(plan.meta["document"] or f"{full_name(plan.meta['models'][0])}, merged")


def _merged(meta: dict[str, Any]) -> list[dict[str, Any]]:
    merged = [model for model in meta["models"] if model["role"] == "model"]
    return merged or list(meta["models"])


def _intermediates(meta: dict[str, Any]) -> str:
    """Say what the other documents of the configuration make."""
    made = [public_name(model) for model in meta["models"] if model.get("intermediate")]
    if not made:
        return ""
    real = list(dict.fromkeys(full_name(model) for model in real_models(meta)))
    verb = "is an intermediate" if len(made) == 1 else "are intermediates"
    return f" {_listing(made)} {verb} of the configuration below; the inputs are {_listing(real)}."


def _listing(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _models(plan: Plan) -> str:
    values = parameters_by_model(plan)
    columns = list(dict.fromkeys(name for found in values for name in found))
    rows = [
        [
            full_name(model),
            model["role"],
            *(plain(found[name]) if name in found else "" for name in columns),
            str(model["revision"] or ""),
        ]
        for model, found in zip(plan.meta["models"], values, strict=True)
    ]
    return _markdown(["model", "role", *columns, "revision"], rows)


def _options(plan: Plan) -> str:
    rows = [
        [name, plain(values)]
        for options in options_by_method(plan).values()
        for name, values in options.items()
    ]
    rows += [["seed", str(plan.seed)], ["dtype", str(plan.meta["dtype"]["output"])]]
    return _markdown(["option", "value"], rows)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    kept = [column for column, _ in enumerate(head) if column == 0 or any(row[column] for row in rows)]
    lines = [
        "| " + " | ".join(cells[column].replace("|", "\\|") for column in kept) + " |"
        for cells in [head, *rows]
    ]
    return "\n".join([lines[0], "|" + "---|" * len(kept), *lines[1:]])
