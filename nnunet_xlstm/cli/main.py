"""Entry point of the command `nnunet_xlstm`: help by stage, dispatch, and one clear line for the user's errors."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from nnunet_xlstm import __version__
from nnunet_xlstm.cli.commands import COMMANDS, STAGES, Command
from nnunet_xlstm.errors import UserError

DEBUG_HELP = "show full tracebacks (as does the environment variable nnUNet_xlstm_debug=1)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. A `UserError`, or a fault of the system (OSError), is one message; a bug shows its traceback.

    Args:
        argv: arguments without the program's name; default: those of the process.

    Returns:
        Exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name of a file can hold what a terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 2
    command = next((row for row in COMMANDS if row.name == options.command), None)
    if command is None:
        print(_unknown(options.command), file=sys.stderr)
        return 2
    debug = options.debug or os.environ.get("nnUNet_xlstm_debug", "0") != "0"
    debug = debug or ("--debug" in options.arguments and not command.passthrough)
    try:
        return _run(command, options.arguments)
    except BrokenPipeError:  # the reader of the output has gone, as in `nnunet_xlstm status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes when it ends
        return 1
    except (UserError, OSError) as error:
        if debug:
            raise
        print(f"nnunet_xlstm {command.name}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(command: Command, arguments: list[str]) -> int:
    add_arguments, run = command.load()
    if command.passthrough:
        return run(arguments)
    parser = argparse.ArgumentParser(prog=f"nnunet_xlstm {command.name}", description=f"{command.summary}.")
    add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help=DEBUG_HELP)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("nnunet_xlstm").setLevel(logging.INFO)
    return run(parser.parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_xlstm",
        usage="nnunet_xlstm [-h] [--version] [--debug] COMMAND [ARGUMENTS]",
        description="xLSTM-UNet and foundation-model training as a plugin for stock nnU-Net v2.",
        epilog=_commands_by_stage() + "\n\nnnunet_xlstm COMMAND --help tells more about one command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nnunet_xlstm {__version__}")
    parser.add_argument("--debug", action="store_true", help=DEBUG_HELP)
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _commands_by_stage() -> str:
    width = max(len(row.name) for row in COMMANDS)
    lines = ["commands:"]
    for stage in STAGES:
        rows = [f"    {row.name:{width}}  {row.summary}" for row in COMMANDS if row.stage == stage]
        lines += [f"  {stage}", *rows] if rows else []
    return "\n".join(lines)


def _unknown(name: str) -> str:
    from nnunet_xlstm.io.validate import did_you_mean

    hint = did_you_mean(name, [row.name for row in COMMANDS])
    return f"nnunet_xlstm: error: unknown command {name!r}{hint}\n{_commands_by_stage()}"
