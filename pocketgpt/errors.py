"""Base class of every error that a user can cause."""


class PocketError(Exception):
    """An error the user can fix; its message says what was wrong and what to do.

    The command line prints the message alone, without a traceback.
    """
