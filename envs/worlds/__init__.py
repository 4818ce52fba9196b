"""Worlds in which the tasks of a family are played: many at once, behind gymnasium's interfaces.

What a task is and what it rewards is the families' business, and how a picture is drawn that of pixels/.
"""

import metaslac.envs.pixels  # noqa: F401  before MuJoCo, whose OpenGL it chooses
