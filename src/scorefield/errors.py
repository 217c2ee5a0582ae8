"""Exception types. The command line maps each to an exit code."""


class InputError(ValueError):
    """The input is invalid. The message states what was given, what is needed and how to fix it.

    Exit code 2.
    """


class Unsupported(InputError):
    """The model lacks a requested capability, such as a log density. Exit code 2."""


class NonFiniteError(ArithmeticError):
    """A state, a loss or a gradient holds a NaN or an infinity.

    The message names the step and the noise level. Exit code 3.
    """
