"""Which of EGL's devices is CUDA's, asked of a stand-in for libEGL through the same C calls."""

import ctypes
from typing import Any

import pytest

from metaslac.envs.pixels import back_end
from metaslac.envs.pixels.egl_devices import EGL_CUDA_DEVICE_NV, cuda_devices, devices, place_of_cuda_device

QUERY_DEVICES = ctypes.CFUNCTYPE(
    ctypes.c_uint, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
)
QUERY_ATTRIBUTE = ctypes.CFUNCTYPE(
    ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_ssize_t)
)


class FakeEGL:
    """Devices in EGL's order, each with CUDA's number or None where it is no GPU."""

    def __init__(self, numbers: list[int | None], missing: tuple[bytes, ...] = ()) -> None:
        def query_devices(most: int, out: Any, count: Any) -> int:
            for place in range(min(most, len(numbers))):
                out[place] = 1000 + place
            count[0] = len(numbers)
            return 1

        def query_attribute(handle: int, attribute: int, out: Any) -> int:
            number = numbers[handle - 1000]
            if attribute != EGL_CUDA_DEVICE_NV or number is None:
                return 0
            out[0] = number
            return 1

        self._kept = QUERY_DEVICES(query_devices), QUERY_ATTRIBUTE(query_attribute)
        names = (b"eglQueryDevicesEXT", b"eglQueryDeviceAttribEXT")
        addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in self._kept]
        known = {name: at for name, at in zip(names, addresses, strict=True) if name not in missing}

        def address(name: bytes) -> int | None:
            return known.get(name)

        self.eglGetProcAddress = address


def test_devices_are_told_apart_by_cudas_number() -> None:
    egl = FakeEGL([2, 0, None, 1])
    assert devices(egl) == [1000, 1001, 1002, 1003]
    assert cuda_devices(egl) == {2: 0, 0: 1, 1: 3}
    assert [place_of_cuda_device(number, cuda_devices(egl)) for number in (0, 1, 2, 3)] == [1, 3, 0, None]


def test_a_single_gpu_is_the_one_whatever_its_number() -> None:
    assert place_of_cuda_device(0, cuda_devices(FakeEGL([None, 5]))) == 1


@pytest.mark.parametrize("missing", [b"eglQueryDevicesEXT", b"eglQueryDeviceAttribEXT"])
def test_without_the_extensions_there_are_none(missing: bytes) -> None:
    egl = FakeEGL([0, 1], missing=(missing,))
    assert cuda_devices(egl) == {}
    assert place_of_cuda_device(0, {}) is None


@pytest.mark.parametrize(
    ("chosen", "users", "expected"), [("egl", None, "1"), ("egl", "7", "7"), ("osmesa", None, None)]
)
def test_mujoco_is_told_unless_the_user_has_said(
    monkeypatch: pytest.MonkeyPatch, chosen: str, users: str | None, expected: str | None
) -> None:
    monkeypatch.setattr(back_end, "BACK_END", chosen)
    monkeypatch.setattr(back_end, "_library", lambda name: FakeEGL([1, 0]))
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", users or "")
    if users is None:
        monkeypatch.delenv("MUJOCO_EGL_DEVICE_ID")
    back_end.draw_on_cuda_device(0)
    assert back_end.os.environ.get("MUJOCO_EGL_DEVICE_ID") == expected
    monkeypatch.delenv("MUJOCO_EGL_DEVICE_ID", raising=False)


@pytest.mark.parametrize(("numbers", "first"), [([None], "osmesa"), ([0], "egl")])
def test_a_gpu_is_preferred_to_drawing_in_software(
    monkeypatch: pytest.MonkeyPatch, numbers: list[int | None], first: str
) -> None:
    monkeypatch.setattr(back_end, "_library", lambda name: FakeEGL(numbers))
    assert back_end._preferred()[0] == first
