"""The task families, one file a body, and what several bodies share.

What any family is stands in family.py; how its worlds are stepped and drawn in worlds/ and pixels/.
"""

import metaslac.envs.pixels  # noqa: F401  before MuJoCo, whose OpenGL it chooses
