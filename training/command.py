"""What all command lines here have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path

from flowpose_ros.cli.main import EXIT_INTERRUPTED, EXIT_USER_ERROR
from flowpose_ros.errors import FlowposeError


def command(main: Callable[..., None]) -> Callable[..., None]:
    """A command line whose process ends with 2, after one line, for what its user can mend, and with 130 for Ctrl-C."""
    @wraps(main)
    def guarded(*args, **kwargs) -> None:
        try:
            main(*args, **kwargs)
        except (FlowposeError, OSError, ValueError) as error:
            print(f"{program()}: {error}", file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)

    return guarded


def program() -> str:
    """The name of the module that runs, or of its folder."""
    path = Path(sys.argv[0])
    return path.parent.name if path.stem == "__main__" else path.stem
