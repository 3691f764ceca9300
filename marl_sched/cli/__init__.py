"""The `marl-sched` program: one module a command, loaded only when it is called."""

from __future__ import annotations

import sys
import time
from typing import Any

__all__ = ["main", "run"]

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and SIGTERM, as shells have them."""


def main(arguments: list[str] | None = None) -> None:
    """Run `marl-sched`."""
    from marl_sched.cli.app import app

    run(app, "marl-sched", arguments)


def run(app: Any, name: str, arguments: list[str] | None = None) -> None:
    """Run a Typer app; ends the process with 0, or 2 and one line of error for bad input."""
    import typer

    from marl_sched.errors import UserError
    from marl_sched.files import disk_is_full
    from marl_sched.signals import Terminated, end_on_sigterm

    end_on_sigterm()
    tables = sys.modules.get("marl_sched.cli.tables")
    if tables is not None:  # a command before this one in the same process was quiet, not this one
        tables.notices.said_s = time.monotonic()
    # Typer brings its own copy of click from 0.26 on; this is UsageError of whichever it uses.
    usage_error: Any = typer.BadParameter.__mro__[1]
    try:
        result = app(args=arguments, standalone_mode=False, prog_name=name)
    except UserError as error:
        _fail(str(error))
    except usage_error as error:
        hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx is not None else ""
        _fail(str(UserError(error.format_message() + hint)))  # cut, as it quotes what was typed
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Terminated:
        print("terminated", file=sys.stderr)
        sys.exit(TERMINATED)
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if not disk_is_full(error):
            raise
        _fail(f"{error.filename or 'a file'} cannot be written: no space is left on its disk")
    if result == INTERRUPTED:  # what Typer makes of Ctrl-C
        print("interrupted", file=sys.stderr)
    sys.exit(result if isinstance(result, int) else 0)


def _fail(message: str) -> None:
    from marl_sched.errors import redacted

    print("error: " + " ".join(redacted(message).split()), file=sys.stderr)
    sys.exit(2)
