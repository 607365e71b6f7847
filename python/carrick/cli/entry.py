"""From arguments to an exit code: 0 done, 1 failed, 2 the request is wrong, 130 interrupted."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DONE, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; whatever fails is one message on stderr.

    Parameters
    ----------
    arguments
        The words after ``carrick``; None takes those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words or ["--help"])
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # What reads our output has gone (`carrick inspect … | head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # the boundary: everything becomes a message and a code
        code = exit_code(error)
        return _fail(_message(error), code, getattr(error, "__notes__", ()))


def _run(words: list[str]) -> int:
    from typer import Abort  # noqa: PLC0415  (KeyboardInterrupt during the import is caught above)
    from typer.main import get_command  # noqa: PLC0415

    from carrick.cli.app import app  # noqa: PLC0415

    try:
        code = get_command(app).main(words, prog_name="carrick", standalone_mode=False)
        sys.stdout.flush()
    except Abort:
        raise KeyboardInterrupt from None
    if code == INTERRUPTED:  # typer says nothing of what it catches outside of the commands
        raise KeyboardInterrupt
    return code if isinstance(code, int) else DONE


def exit_code(error: Exception) -> int:
    """2 for what the user can mend in the request (a full disk among it), 1 for everything else."""
    from carrick.errors import CarrickError  # noqa: PLC0415

    if isinstance(error, CarrickError) or _is_usage(error):
        return WRONG_REQUEST
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return WRONG_REQUEST
    return INTERRUPTED if _is_interrupt(error) else FAILED


def _is_interrupt(error: Exception) -> bool:
    from carrick.cli.app import Interrupted  # noqa: PLC0415

    return isinstance(error, Interrupted)


def _is_usage(error: Exception) -> bool:
    # typer carries its own copy of click since 0.27 and used the package before: known by what both have.
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _message(error: Exception) -> str:
    from carrick.errors import CarrickError  # noqa: PLC0415

    if os.environ.get("CARRICK_DEBUG") == "1":
        traceback.print_exception(error)
    if _is_usage(error):
        from carrick.cli.wrong_value import wrong_value  # noqa: PLC0415  (wanted for mistakes alone)

        said = wrong_value(error)
        if said is not None:
            return said
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "carrick"
        return f"{error.format_message().rstrip('.')}; see `{command} --help`"  # type: ignore[attr-defined]
    if isinstance(error, CarrickError) or _is_interrupt(error):
        return str(error)
    if isinstance(error, OSError):
        return _os_message(error)
    return f"{type(error).__name__}: {error}; this is a fault in Carrick: CARRICK_DEBUG=1 shows where"


def _os_message(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}"


def _fail(message: str, code: int, remarks: Iterable[str] = ()) -> int:
    sys.stderr.write(f"error: {message}\n")
    for remark in remarks:
        sys.stderr.write(f"note: {remark}\n")
    return code
