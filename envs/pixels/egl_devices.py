"""What EGL says of its devices: how many there are, and which of them are CUDA's.

Asked through ctypes, because the choice of a back end comes before PyOpenGL may be imported.
"""

import ctypes
from typing import Any, Protocol

MOST_DEVICES = 32
EGL_CUDA_DEVICE_NV = 0x323A  # of the extension EGL_NV_device_cuda

_QUERY_DEVICES = ctypes.CFUNCTYPE(
    ctypes.c_uint, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
)
_QUERY_ATTRIBUTE = ctypes.CFUNCTYPE(
    ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_ssize_t)
)


class Library(Protocol):
    """The loaded libEGL."""

    eglGetProcAddress: Any


def devices(egl: Library) -> list[int]:
    """Handles of EGL's devices, in its order; none where its library loads without a driver."""
    address = _address(egl, b"eglQueryDevicesEXT")
    found = (ctypes.c_void_p * MOST_DEVICES)()
    count = ctypes.c_int(0)
    if not address or not _QUERY_DEVICES(address)(MOST_DEVICES, found, ctypes.byref(count)):
        return []
    return [handle or 0 for handle in found[: count.value]]


def cuda_devices(egl: Library) -> dict[int, int]:
    """CUDA's number of a device -> its place in EGL's order, for those that have both."""
    address = _address(egl, b"eglQueryDeviceAttribEXT")
    if not address:
        return {}
    query = _QUERY_ATTRIBUTE(address)
    numbers: dict[int, int] = {}
    for place, handle in enumerate(devices(egl)):
        number = ctypes.c_ssize_t(-1)
        if query(handle, EGL_CUDA_DEVICE_NV, ctypes.byref(number)) and number.value >= 0:
            numbers[number.value] = place
    return numbers


def place_of_cuda_device(number: int, places: dict[int, int]) -> int | None:
    """Where EGL has CUDA's device `number`; None if it does not say.

    A single GPU is the one in any case: CUDA_VISIBLE_DEVICES renumbers CUDA's devices and not always EGL's.
    """
    if len(places) == 1:
        return next(iter(places.values()))
    return places.get(number)


def _address(egl: Library, function: bytes) -> int | None:
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address: int | None = egl.eglGetProcAddress(function)
    return address
