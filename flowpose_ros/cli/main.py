"""The `flowpose` program: finds the subcommand, runs it, and turns expected errors into one line."""

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from flowpose_ros.errors import FlowposeError

# Named here so that the list of commands is shown without importing what they need;
# each is a module of this folder with add_parser(subparsers), which sets `func`.
COMMANDS = {
    "onboard": "check a mesh: units, diameter, symmetries, a contact sheet of templates",
    "estimate": "poses of the objects in one image",
    "bop": "poses for a dataset in BOP layout, as a BOP csv file",
    "evaluate": "scores of a BOP csv file against the ground truth",
    "replay": "a bag through the node, into a bag with the results added",
    "doctor": "what is missing on this machine, and the command that mends it",
    "demo": "the demo clip through the real node, with scores and pictures",
}
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand and return the exit code: 2 with one line for what a user can mend, 130 for Ctrl-C, 141 where
    nobody reads on, as `| head`."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        with interrupts_kept():
            parser = make_parser(argv[0] if argv else None)
        args = parser.parse_args(argv)
        code = args.func(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter's own last flush
        return EXIT_UNREAD
    except (FlowposeError, OSError) as error:
        print(f"flowpose: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


@contextlib.contextmanager
def interrupts_kept() -> Iterator[None]:
    """Ctrl-C takes effect at the end: in the middle of an import, libraries swallow it and go on without a part."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as of what a script starts in the background
    if ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def make_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser of the program; only the chosen subcommand is imported and shows its own flags."""
    parser = argparse.ArgumentParser(
        prog="flowpose",
        description="Zero-shot 6D pose of objects known only by their CAD mesh.",
        epilog="example: flowpose onboard mug.ply --unit mm\nflowpose COMMAND --help shows the flags of a command",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        if name == chosen:
            importlib.import_module(f"flowpose_ros.cli.{name}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


if __name__ == "__main__":
    sys.exit(main())
