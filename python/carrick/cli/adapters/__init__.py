"""``carrick adapters``: one file for each of its commands."""

from __future__ import annotations

from carrick.cli.adapters.apply import apply
from carrick.cli.adapters.extract import extract
from carrick.cli.adapters.inspect import inspect
from carrick.cli.adapters.merge import merge

COMMANDS = (merge, apply, extract, inspect)

__all__ = ["COMMANDS"]
