"""The command line: one file for each command, none of which decides anything."""

from carrick.cli.entry import main

__all__ = ["main"]
