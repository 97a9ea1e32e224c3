"""The one base class of every error that a person can cause."""


class PocketError(Exception):
    """Something the person at the keyboard can mend; its message says what was wrong and what to do.

    The command line prints the message alone, without a traceback.
    """
