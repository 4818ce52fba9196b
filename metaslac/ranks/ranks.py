"""The ranks of a run as one of them sees them; here the stand-in of a run that is one process.

Those that torchrun starts are group.py's, what is whose is sharding.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from metaslac.errors import MetaslacError, TrainingFault

if TYPE_CHECKING:
    from torch import Tensor


class RankLost(TrainingFault):
    """Another rank has ended, or does not answer."""


class ToldElsewhere(MetaslacError):
    """What is wrong is another rank's to say."""


class Ranks:
    """All ranks of a run, seen from one. Whatever asks the others has to be called by all, in one order."""

    rank, size = 0, 1

    @property
    def first(self) -> bool:
        """Whether it is this one that writes what is written once."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks, in place."""
        return tensor

    def agree(self, asked: bool) -> bool:
        """Whether any rank asks."""
        return asked

    def gather(self, data: bytes) -> list[bytes]:
        """What each rank gives, by rank; long work may have been before."""
        return [data]

    def tell(self, value: Any) -> list[Any]:
        """The same of values that JSON has."""
        return [value]

    def of_first(self, value: Any) -> Any:
        """What the first rank gives."""
        return self.tell(value)[0]

    def meet(self) -> None:
        """Wait until all are here; one may have had long work that the others have not."""
        self.tell(None)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within, what is wrong on one rank is raised on all; the first of those that it is wrong on says it.

        Raises the ValueError of this rank, or ToldElsewhere.
        """
        error: ValueError | None = None
        try:
            yield
        except RankLost:
            raise
        except ValueError as wrong:  # MetaslacError and FamilyError
            error = wrong
        told = self.tell(None if error is None else str(error))
        if not any(text is not None for text in told):
            return
        says = next(rank for rank, text in enumerate(told) if text is not None)
        if error is not None and says == self.rank:
            raise error
        raise ToldElsewhere(f"rank {says}: {told[says]}") from None


ALONE = Ranks()
