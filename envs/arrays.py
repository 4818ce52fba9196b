"""Names for the arrays that pass between the files of this package."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Frames = npt.NDArray[np.uint8]  # (..., H, W, 3)
Ids = npt.NDArray[np.intp]  # slots of worlds, rising
