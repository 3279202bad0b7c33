"""The one exception that is the user's to mend: launchers print its text and leave with status 2."""


class UserError(Exception):
    """A mistake in what we were given.

    The text is one or a few sentences that say what is wrong (with the value), where, and what to do about it.
    """
