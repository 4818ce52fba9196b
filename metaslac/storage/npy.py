"""Arrays as .npy files: written row by row, and mapped or read without ever unpickling anything.

What the arrays are is decided by the callers.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable
from pathlib import Path
from tokenize import TokenError
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from metaslac.errors import MetaslacError
from metaslac.storage.files import flush_to_disk

# A header of this length has room for any shape: it is written again once the number of rows is known.
HEADER_BYTES = 256
MAGIC = b"\x93NUMPY\x01\x00"

# What NumPy raises for a file that is no array, its header being parsed as Python's literals are.
NO_ARRAY = (
    ValueError,
    TypeError,
    EOFError,
    MemoryError,
    ArithmeticError,
    RuntimeError,
    SyntaxError,
    TokenError,
)


class ArrayWriter:
    """Writes an array whose number of rows is not known before they have come.

    Args:
        path: of a new file.
        dtype: of its elements.
        row: shape of a row.
    """

    def __init__(self, path: Path, dtype: Any, row: tuple[int, ...]) -> None:
        self._dtype, self._row = np.dtype(dtype), row
        self._rows = 0
        self._file: BinaryIO = path.open("xb")
        self._file.write(_header(self._dtype, (0, *row)))

    def append(self, rows: NDArray[Any]) -> None:
        """Write more rows. Raises ValueError for those of another type or shape."""
        if rows.dtype != self._dtype or rows.shape[1:] != self._row:
            raise ValueError(f"{rows.shape} of {rows.dtype} are no rows {self._row} of {self._dtype}")
        self._file.write(np.ascontiguousarray(rows).data)
        self._rows += len(rows)

    def finish(self) -> None:
        """Say in the header how many rows there are, and wait until the disk has all of it."""
        self._file.seek(0)
        self._file.write(_header(self._dtype, (self._rows, *self._row)))
        flush_to_disk(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def map_array(path: Path) -> NDArray[Any]:
    """The array in a file, mapped: it takes memory that the system can have back at any time.

    The map is private: torch may have it as a tensor, and what is written there never reaches the file.

    Raises MetaslacError for what is no array of plain numbers, all of it.
    """
    try:
        with np.errstate(over="ignore"):  # a shape that overflows is refused all the same
            return np.lib.format.open_memmap(path, mode="c")
    except OSError as error:
        raise MetaslacError(f"cannot read {path}: {error.strerror or error}") from None
    except NO_ARRAY as error:
        reason = " ".join(str(error).split())
        raise MetaslacError(f"{path} is damaged: not readable as an array: {reason}") from None


def mapping_of(array: NDArray[Any]) -> mmap.mmap:
    """The map that an array of map_array is a view of."""
    owner: Any = array
    while not isinstance(owner, mmap.mmap):
        owner = owner.base
    return owner


def read_here_and_there(array: NDArray[Any]) -> None:
    """Have the system read of a mapped array no more than is asked for, and nothing ahead of it."""
    mapping = mapping_of(array)
    if hasattr(mapping, "madvise"):  # not on every system
        mapping.madvise(mmap.MADV_RANDOM)


def ask_for(array: NDArray[Any], spans: Iterable[tuple[int, int]]) -> None:
    """Have the system read rows of a mapped array, each span from one row to before another.

    All at once and without being waited for: row by row, each would be waited for when it is touched.
    """
    mapping = mapping_of(array)
    if not hasattr(mapping, "madvise"):
        return
    row, begin = array.nbytes // len(array), array.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data
    for first, end in spans:
        start = (begin + first * row) // mmap.PAGESIZE * mmap.PAGESIZE
        mapping.madvise(mmap.MADV_WILLNEED, start, begin + end * row - start)


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Of version 1.0 of the format, in NumPy's documentation of numpy.lib.format."""
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    room = HEADER_BYTES - len(MAGIC) - 2
    return MAGIC + struct.pack("<H", room) + repr(fields).encode("ascii").ljust(room - 1) + b"\n"
