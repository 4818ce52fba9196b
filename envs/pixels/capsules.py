"""Capsules drawn at half the price: MuJoCo draws one as three display lists, here it is a single one.

The rest of drawing is in rendering.py. What is saved is calls of OpenGL, of triangles only those that split
the straight part of a capsule lengthwise.
"""

import mujoco
import numpy as np
import numpy.typing as npt

_CAPSULE = mujoco.mjtGeom.mjGEOM_CAPSULE.value
_MESH = mujoco.mjtGeom.mjGEOM_MESH.value
_GEOM = mujoco.mjtObj.mjOBJ_GEOM.value

Mesh = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.uint32]]


class Capsules:
    """Display lists for the untextured capsules of a model, in the OpenGL context that is current.

    The lists are freed with the context. Capsules with a texture are left to MuJoCo; so are all where a model
    has other sizes by the time it is drawn.
    """

    def __init__(self, model: mujoco.MjModel, scene: mujoco.MjvScene, context: mujoco.MjrContext) -> None:
        self._scene = scene
        self._geoms = [scene.geoms[place] for place in range(scene.maxgeom)]  # views of the scene's memory
        self._sizes: bytes = model.geom_size.tobytes()
        self._first: int = context.baseMesh
        self._lists: dict[int, int] = {}
        slices, stacks = model.vis.quality.numslices, model.vis.quality.numstacks
        for geom in np.flatnonzero(model.geom_type == _CAPSULE):
            material = model.geom_matid[geom]
            if material < 0 or (model.mat_texid[material] < 0).all():
                radius, half_length, _ = model.geom_size[geom]
                number = _display_list(capsule_mesh(radius, half_length, slices, stacks))
                # MuJoCo draws a mesh by calling the list that is `dataid` after its first one.
                self._lists[int(geom)] = number - self._first

    def free(self) -> None:
        """Free the lists, in the thread and context that made them."""
        from OpenGL import GL

        for number in self._lists.values():
            GL.glDeleteLists(number + self._first, 1)
        self._lists.clear()

    def replace(self, model: mujoco.MjModel) -> None:
        """Make the capsules of the scene, just updated from `model`, meshes of one list each."""
        if not self._lists or model.geom_size.tobytes() != self._sizes:
            return
        for geom in self._geoms[: self._scene.ngeom]:
            if geom.type == _CAPSULE and geom.objtype == _GEOM:
                number = self._lists.get(geom.objid)
                if number is not None:
                    geom.type = _MESH
                    geom.dataid = number


def capsule_mesh(radius: float, half_length: float, slices: int, stacks: int) -> Mesh:
    """Vertices (V, 3), their normals (V, 3) and triangles (T, 3) of a capsule along z, divided as MuJoCo's.

    Of MuJoCo's `stacks`, half lie on each cap; the straight part is not divided along z.
    """
    rings = max(1, stacks // 2)
    elevation = np.pi / 2 * np.arange(rings) / rings  # of the upper cap, from its edge to below its pole
    elevation = np.concatenate([-elevation[::-1], elevation])
    middle = np.repeat([-half_length, half_length], rings)
    around = 2 * np.pi * np.arange(slices) / slices
    normals = np.stack(
        [
            np.outer(np.cos(elevation), np.cos(around)),
            np.outer(np.cos(elevation), np.sin(around)),
            np.outer(np.sin(elevation), np.ones(slices)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    normals = np.concatenate([normals, [[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]]])
    centres = np.concatenate([np.repeat(middle, slices), [-half_length, half_length]])
    vertices = radius * normals
    vertices[:, 2] += centres
    here = np.arange(slices)
    there = (here + 1) % slices
    below, above = 2 * rings * slices, 2 * rings * slices + 1  # the poles
    top = (2 * rings - 1) * slices
    triangles = [
        np.stack([np.full(slices, below), there, here], axis=1),
        np.stack([np.full(slices, above), top + here, top + there], axis=1),
    ]
    for low in slices * np.arange(2 * rings - 1):
        high = low + slices
        triangles.append(np.stack([low + here, low + there, high + there], axis=1))
        triangles.append(np.stack([low + here, high + there, high + here], axis=1))
    return (
        vertices.astype(np.float32),
        normals.astype(np.float32),
        np.concatenate(triangles).astype(np.uint32),
    )


def _display_list(mesh: Mesh) -> int:
    from OpenGL import GL  # loaded with the back end, not before

    # Corner by corner, for PyOpenGL would keep the arrays of a vertex pointer for good.
    vertices, normals, triangles = mesh
    number: int = GL.glGenLists(1)
    GL.glNewList(number, GL.GL_COMPILE)
    GL.glBegin(GL.GL_TRIANGLES)
    for corner in triangles.ravel():
        GL.glNormal3f(*normals[corner])
        GL.glVertex3f(*vertices[corner])
    GL.glEnd()
    GL.glEndList()
    return number
