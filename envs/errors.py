"""The errors that a user of the families can meet, each one clear line.

Raised all over the package; nothing here decides when.
"""

from typing import Any


class FamilyError(ValueError):
    """Something asked of a family cannot be done; the message says what would be right."""


class UnknownFamilyError(FamilyError):
    """No family has the name that was asked for."""


class RenderingUnavailable(FamilyError):
    """Pixels were asked for where OpenGL cannot start; the message says why, and what would help."""


class SimulationDiverged(FamilyError):
    """Worlds failed, as of a simulator out of its range. They have ended until reset; the others go on.

    `worlds` lists the slots, in rising order; `result` is what the step returned otherwise.
    """

    # Of the message alone it can be made too, as worker processes do with an error that they hand over.
    def __init__(self, message: object, worlds: tuple[int, ...] = (), result: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.worlds = worlds
        self.result = result
