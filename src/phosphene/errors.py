"""The one kind of error that is the user's to mend."""


class UserError(ValueError):
    """Bad input. The message is one sentence that names the option, the value and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """
