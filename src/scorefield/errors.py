"""What can go wrong, by who can mend it. The command line maps these to its exit codes."""


class InputError(ValueError):
    """The user's mistake: the message says what was got, what is needed and how to mend it. Exit
    code 2.
    """


class NonFiniteError(ArithmeticError):
    """A NaN or an infinity in a state, a loss or a gradient; the message names step and sigma. Exit
    code 3.
    """
