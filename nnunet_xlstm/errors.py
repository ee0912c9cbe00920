"""The exceptions that a user can cause and mend. Imports nothing.

`nnunet_xlstm COMMAND` shows a `UserError` as one message: what was given, the rule, the fix. Every other exception is a
fault of this package, and shows its traceback.
"""


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
