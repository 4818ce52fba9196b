"""Which convolutions run in bfloat16. Weights, losses, distributions and optimisers are float32 throughout.

Where it pays was measured: docs/speed.md.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch


class Precision(NamedTuple):
    """The types that images are encoded and decoded in."""

    device_type: str
    fixed: torch.dtype  # where no gradient is wanted
    trained: torch.dtype

    @classmethod
    def of(cls, name: str, device: torch.device) -> Precision:
        """`float32` everywhere, or for `auto` bfloat16 where the device is the faster for it.

        A CPU with instructions for bfloat16 encodes about twice as fast with it, but the backward pass of
        its convolutions is slower. A GPU without them only imitates it, slowly.
        """
        fixed = trained = torch.float32
        if name == "auto" and device.type == "cuda" and gpu_has_bfloat16():
            fixed = trained = torch.bfloat16
        if name == "auto" and device.type == "cpu" and cpu_has_bfloat16():
            fixed = torch.bfloat16
        return cls(device.type, fixed, trained)

    def cast_fixed(self) -> AbstractContextManager[None]:
        """Within, the layers that take images run in `fixed`."""
        return self._cast(self.fixed)

    def cast_trained(self) -> AbstractContextManager[None]:
        """Within, the layers that take or make images run in `trained`."""
        return self._cast(self.trained)

    def _cast(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.device_type, dtype)


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def gpu_has_bfloat16() -> bool:
    """Whether the GPU multiplies bfloat16 itself: NVIDIA's since Ampere do."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
