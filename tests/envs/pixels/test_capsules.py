"""Capsules of one display list: the mesh is a capsule, and pictures are MuJoCo's own but for rounding."""

from collections import Counter

import numpy as np
import pytest

from metaslac import envs
from metaslac.envs.arrays import Frames
from metaslac.envs.pixels.capsules import Capsules, capsule_mesh
from metaslac.envs.worlds.kinds.batch import BatchWorlds

RADIUS, HALF_LENGTH = 0.3, 1.1


@pytest.mark.parametrize(("slices", "stacks"), [(12, 6), (3, 2), (28, 16)])
def test_the_mesh_is_a_closed_capsule_seen_from_outside(slices: int, stacks: int) -> None:
    vertices, normals, triangles = capsule_mesh(RADIUS, HALF_LENGTH, slices, stacks)
    axis = np.zeros_like(vertices)
    axis[:, 2] = np.clip(vertices[:, 2], -HALF_LENGTH, HALF_LENGTH)
    np.testing.assert_allclose(np.linalg.norm(vertices - axis, axis=1), RADIUS, rtol=1e-5)
    np.testing.assert_allclose(normals, (vertices - axis) / RADIUS, atol=1e-5)
    edges = Counter((int(a), int(b)) for t in triangles for a, b in zip(t, np.roll(t, -1), strict=True))
    assert set(edges.values()) == {1}
    assert all((b, a) in edges for a, b in edges)
    corners = vertices[triangles].astype(np.float64)
    volume = np.linalg.det(corners).sum() / 6  # positive if the corners go round anticlockwise from outside
    exact = np.pi * RADIUS**2 * 2 * HALF_LENGTH + 4 / 3 * np.pi * RADIUS**3
    assert 0.0 < volume < exact
    if slices == 28:
        assert volume == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("name", ["cheetah_vel", "walker_rand_params", "humanoid_dir", "dmc:cheetah-run"])
def test_pictures_are_those_of_mujocos_capsules(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = _episode(name)
    monkeypatch.setattr(Capsules, "replace", lambda capsules, model: None)
    stock = _episode(name)
    apart = np.abs(drawn.astype(int) - stock).max(axis=-1)
    assert apart.any()  # the capsules were replaced
    assert apart.mean() < 0.5
    assert (apart > 32).mean() < 1e-3  # single pixels at an edge


def test_capsules_of_another_size_are_left_to_mujoco(monkeypatch: pytest.MonkeyPatch) -> None:
    def picture() -> Frames:
        worlds = BatchWorlds(envs.make_family("cheetah_vel"), 1, 1)
        pool = worlds.painter(64, 1)
        frames = np.zeros((2, 1, 64, 64, 3), dtype=np.uint8)
        pool.draw(np.arange(1), frames[0])
        worlds.simulation.model.geom_size[2:] *= 2.0
        pool.draw(np.arange(1), frames[1])
        pool.close()
        return frames

    drawn = picture()
    monkeypatch.setattr(Capsules, "replace", lambda capsules, model: None)
    stock = picture()
    assert not np.array_equal(drawn[0], stock[0])
    assert not np.array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[1], stock[1])


def _episode(name: str) -> Frames:
    env = envs.make_vector_env(envs.make_family(name), 4)
    rng = np.random.default_rng(0)
    frames = [env.reset(seed=0)[0]]
    for _ in range(20):
        frames.append(env.step(rng.uniform(-1, 1, env.action_space.shape))[0])
    env.close()
    return np.stack(frames)
