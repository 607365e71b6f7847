"""``carrick schema``."""

from __future__ import annotations

from carrick.cli.output import say_json


def schema() -> None:
    """Print the configuration's JSON schema.

    Editors complete and check with it, and so do CI jobs.
    """
    from carrick.config.schema import json_schema  # noqa: PLC0415

    say_json(json_schema())
