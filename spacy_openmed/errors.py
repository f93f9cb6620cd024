"""The one exception that users of the package meet."""


class OpenMedError(ValueError):
    """Something the user can mend: the message names what was wrong, what was
    looked at and what to do."""
