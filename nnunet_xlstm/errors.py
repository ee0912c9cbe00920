"""The exceptions that a user can cause and mend.

`nnunet_xlstm COMMAND` shows a `UserError` as one message: what was given, the rule, the fix. Every other exception is a
fault of this package, and shows its traceback.
"""

from collections.abc import Mapping


class UserError(ValueError):
    """Base of all errors that a user can mend."""


class ConfigError(UserError):
    """An option, a configuration key or a preset is wrong."""


class DatasetError(UserError):
    """An image, a label map, a table or a data set cannot be used."""


class CheckpointError(UserError):
    """A checkpoint or a plans file cannot be used."""


class CommandFailed(UserError):
    """A child process ended with an error."""


MAX_REASONS = 10


def failed_text(failed: Mapping[str, str], total: int, done: str, what: str = "cases") -> str:
    """Say which of many could not be dealt with: the first with the reasons, of the others the names.

    Args:
        failed: name -> why.
        total: how many were tried.
        done: such as "scored".
        what: such as "subjects".
    """
    names = list(failed)
    lines = [f"{len(failed)} of {total} {what} could not be {done}:"]
    lines += [f"{name}: {failed[name]}" for name in names[:MAX_REASONS]]
    lines += [f"and {', '.join(names[MAX_REASONS:])}"] if names[MAX_REASONS:] else []
    return "\n".join(lines)
