"""How a command fails: one line on stderr and an exit code, never a traceback for what the user can fix.

Exit codes: 2 for bad input; 1 for what stopped a training that had begun, and for damage that `inspect`
found; 75 for a training that was asked to stop (signals.py); 130 for Ctrl-C elsewhere. Everything unforeseen
keeps its traceback.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import Any

import click

from metaslac.errors import MetaslacError, TrainingFault
from metaslac.ranks.ranks import ToldElsewhere

FAULT = 1
BAD_INPUT = 2
INTERRUPTED = 130
NO_ROOM = errno.ENOSPC, errno.EDQUOT  # of a file that the output goes to; other files say which they are


class OneLineErrors(click.Group):
    """A command group that prints `metaslac: <message>` for bad input of any kind."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run as click does, with our messages and exit codes."""

        def run() -> Any:
            return super(OneLineErrors, self).main(args, prog_name, complete_var, False, **extra)

        if not standalone_mode:
            return run()
        try:
            result = run()
        except click.Abort:  # what click makes of Ctrl-C
            _leave("interrupted", INTERRUPTED)
        except click.ClickException as error:
            _leave(error.format_message(), BAD_INPUT)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            _leave(f"cannot write all that was to be said: {error.strerror}", FAULT)
        except ValueError as error:
            if not _meant_for_the_user(error):
                raise
            if isinstance(error, ToldElsewhere):
                sys.exit(BAD_INPUT)
            _leave(str(error), FAULT if isinstance(error, TrainingFault) else BAD_INPUT)
        sys.exit(result if isinstance(result, int) else 0)


def _meant_for_the_user(error: ValueError) -> bool:
    if isinstance(error, MetaslacError):
        return True
    from metaslac.envs import FamilyError  # here, so that --help does not load a simulator

    return isinstance(error, FamilyError)


def _leave(message: str, code: int) -> None:
    click.echo(f"metaslac: {' '.join(message.split())}", err=True)
    sys.exit(code)
