"""The errors that jaxasr raises on purpose.

Each message reads ``Where: what came; what was expected; what to do.`` The command lines print it without a
traceback and exit with status 2.
"""


class JaxasrError(ValueError):
    """Something a user can put right; the message says how."""


class ConfigError(JaxasrError):
    """An option, a choice or a combination of them that means nothing."""


class DataError(JaxasrError):
    """A manifest, a sound file or a transcript that cannot be used."""


class CheckpointError(JaxasrError):
    """A model or a checkpoint that cannot be read, or does not belong to this run."""
