"""The command line ``pynn``: a thin face over the library. Every command has ``--json``."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from .. import errors
from . import bench, build, cache, calibrate, compare, convert, doctor, inspect, run
from .console import Console

EPILOG = """\
exit codes:
  0    done
  1    failed while compiling or running, or not done within --deadline
  2    wrong usage: arguments, files that cannot be read, arrays that do not fit the model
  3    the model or engine was refused: not ONNX, damaged, or not supported
  4    no back end can be used here (pynn doctor says why)
  130  cancelled with Ctrl-C
"""

COMMANDS = (doctor, run, bench, build, calibrate, compare, convert, inspect, cache)

_NO_BACKEND = (
    errors.BackendUnavailableError,
    errors.LibraryNotFoundError,
    errors.LibraryVersionError,
    errors.DeviceUnsupportedError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    console = Console(as_json=arguments.json)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.FallbackWarning)  # commands print the report themselves
            return int(arguments.command(arguments, console))
    except KeyboardInterrupt:
        return console.fail("cancelled", "KeyboardInterrupt", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except (errors.PynnError, OSError) as error:
        return console.fail(str(error), type(error).__name__, exit_code(error))


def exit_code(error: Exception) -> int:
    """The code of an error, as the help lists them."""
    if isinstance(error, errors.BuildDeadlineError):
        return 1
    if isinstance(error, errors.BuildCancelledError):
        return 130
    if isinstance(error, _NO_BACKEND):
        return 4
    if isinstance(error, (errors.ModelError, errors.UnsupportedModelError, errors.PlanError)):
        return 3
    if isinstance(error, (errors.ValidationError, errors.CacheError, OSError)):
        return 2
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pynn",
        description="Run neural networks on TensorRT, or on ONNX Runtime where there is none.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print pynn's version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        sub = commands.add_parser(
            name,
            help=command.HELP,
            description=command.__doc__,
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.configure(sub)
        sub.add_argument("--json", action="store_true", help="print one JSON object instead of text")
        sub.set_defaults(command=command.execute)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import pynn

        sys.stdout.write(f"pynn {pynn.__version__}\n")
        parser.exit()
