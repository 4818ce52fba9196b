"""Pictures: the OpenGL back end, threads that draw, and what makes small pictures cheap.

What is drawn is told by worlds/; nothing here knows of tasks.
"""

# First of all, and for its effect: it picks the OpenGL back end, which must happen before MuJoCo is imported.
import metaslac.envs.pixels.back_end  # noqa: F401
