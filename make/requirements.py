"""Print the requirements that pyproject.toml states: `core`, `build` or the name of an extra."""

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(group: str, pyproject: dict) -> list[str]:
    """Return the requirement lines of one group."""
    if group == "core":
        return pyproject["project"]["dependencies"]
    if group == "build":
        return pyproject["build-system"]["requires"]
    return pyproject["project"]["optional-dependencies"][group]


def main() -> None:
    """Write one requirement a line, each once, in the order of the groups asked for."""
    pyproject = tomllib.loads(PYPROJECT.read_text())
    lines = [line for group in sys.argv[1:] for line in requirements(group, pyproject)]
    sys.stdout.write("".join(f"{line}\n" for line in dict.fromkeys(lines)))


if __name__ == "__main__":
    main()
