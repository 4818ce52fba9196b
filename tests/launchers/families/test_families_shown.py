"""`metaslac families`: the list, and pictures of a family."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reports import ROOT, here, refusal

from metaslac import envs
from metaslac.envs import make_family
from metaslac.envs.families.suite import suite_names
from metaslac.launchers.families import contact_sheet
from metaslac.launchers.media.picture import MOMENTS


def test_the_list_is_readable_however_many_parameters_there_are() -> None:
    lines = here("families").splitlines()
    assert all(len(line) <= 110 for line in lines[:-1])
    for line in lines[1:-1]:
        family = make_family(line.split()[0])
        assert line.split()[-1] == family.task_hash[:12]
        assert (f"{family.param_names[0]}, ... (" in line) == (len(", ".join(family.param_names)) > 32)
    assert "dmc:<domain>-<task>" in lines[-1] and "metaslac families --suite" in lines[-1]


def test_the_list_does_not_load_the_suite() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from metaslac.launchers.cli import cli\n"
        "assert CliRunner().invoke(cli, ['families']).exit_code == 0\n"
        "sys.exit('dm_control.suite' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_suite_is_listed_and_counted() -> None:
    *names, last = here("families", "--suite").splitlines()
    assert tuple(names) == suite_names() and "dmc:cheetah-run" in names
    assert last.endswith(f"these are {len(names)}")


class TestShow:
    def test_rows_are_tasks_and_columns_moments_of_their_episodes(self) -> None:
        family = make_family("cheetah_vel", image_size=32, action_repeat=20)
        tasks = [family.tasks[3], family.tasks[120]]
        headings, strips = contact_sheet(family, tasks, seed=5)
        assert headings == [f"step {step}" for step in (0, 1, 3, 4, 6, 7, 9, 10)]
        env = envs.make_vector_env(family, 1)
        expected = [env.reset(seed=[5], options={"task": [3]})[0][0]]
        rng = np.random.default_rng((5, 1))
        for _ in range(2):
            action = rng.uniform(-1, 1, (1, 6))
            expected += [env.step(action)[0][0] for _ in range(5)]
        env.close()
        for strip in strips:  # the target velocity does not show
            np.testing.assert_array_equal(strip.frames, np.stack(expected)[[0, 1, 3, 4, 6, 7, 9, 10]])
        assert strips[0].title == f"task 3 (training)   target_velocity {tasks[0].params[0]:.2f}"
        assert strips[1].title.startswith("task 120 (held out)")

    def test_rows_start_alike_and_part_where_the_task_is_in_the_physics(self) -> None:
        family = make_family("walker_rand_params", image_size=32)
        first, second = contact_sheet(family, [family.tasks[0], family.tasks[1]], seed=0)[1]
        np.testing.assert_array_equal(first.frames[0], second.frames[0])
        shared = min(len(first.frames), len(second.frames))
        assert (first.frames[:shared] != second.frames[:shared]).any()
        assert first.title.count(" x ") == 4 and len(first.title) < 180

    def test_a_row_stops_where_its_episode_does(self) -> None:
        family = make_family("hopper_rand_params", image_size=32)
        headings, strips = contact_sheet(family, family.tasks[::8], seed=0)
        steps = [int(heading.removeprefix("step ")) for heading in headings]
        ends = [int(strip.title.rpartition("over after ")[2].split()[0]) for strip in strips]
        assert max(ends) == steps[-1] < family.episode_steps
        assert [len(strip.frames) for strip in strips] == [sum(s <= end for s in steps) for end in ends]

    @pytest.mark.parametrize(("size", "factor"), [(32, 3), (64, 2), (128, 1)])
    def test_the_file_shows_whole_pixels(self, tmp_path: Path, size: int, factor: int) -> None:
        path = tmp_path / "sheet.png"
        arguments = [
            "families",
            "--show",
            "point_robot",
            "--tasks",
            "3",
            "--image-size",
            str(size),
            "--plain",
        ]
        assert here(*arguments, "--out", str(path)) == ""
        sheet = np.asarray(Image.open(path))
        family = make_family("point_robot", image_size=size)
        _, strips = contact_sheet(family, [family.tasks[i] for i in (0, 50, 99)], seed=0)
        tile, words = size * factor, 21
        assert sheet.shape == (words + 3 * (words + tile + 4), MOMENTS * (tile + 4), 3)
        for row, strip in enumerate(strips):
            top = words + row * (words + tile + 4) + words
            for column, frame in enumerate(strip.frames):
                left = column * (tile + 4)
                shown = sheet[top : top + tile, left : left + tile]
                np.testing.assert_array_equal(shown[::factor, ::factor], frame)
                np.testing.assert_array_equal(shown, frame.repeat(factor, 0).repeat(factor, 1))
            assert sheet[top - words : top].max() > 200  # the caption

    def test_people_are_shown_the_goal_on_the_same_pixels(self, tmp_path: Path) -> None:
        sheets = []
        for more in ([], ["--plain"]):
            path = tmp_path / "sheet.png"
            here("families", "--show", "point_robot", "--tasks", "3", "--out", str(path), *more)
            sheets.append(np.asarray(Image.open(path)).astype(int))
        family = make_family("point_robot")
        for row, task in enumerate([family.tasks[i] for i in (0, 50, 99)]):
            top = 21 + row * (21 + 132) + 21
            x, y = np.round(128 * (0.5 + np.array(task.params) * (1, -1) / 4)).astype(int)
            for left in range(0, MOMENTS * 132, 132):
                assert np.abs(sheets[0][top + y, left + x] - (70, 240, 120)).max() < 10
            start = (slice(top, top + 128), slice(0, 128))  # no path yet
            places = np.argwhere((sheets[0][start] != sheets[1][start]).any(-1))
            assert len(places) > 10 and np.abs(places - (y, x)).max() < 8

    def test_the_seed_decides(self, tmp_path: Path) -> None:
        pictures = []
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            path = tmp_path / f"{name}.png"
            here("families", "--show", "point_robot", "--seed", str(seed), "--out", str(path))
            pictures.append(path.read_bytes())
        assert pictures[0] == pictures[1] != pictures[2]

    def test_a_task_of_the_suite(self, tmp_path: Path) -> None:
        arguments = ["families", "--show", "dmc:cartpole-swingup", "--action-repeat", "8"]
        here(*arguments, "--out", str(tmp_path / "sheet.png"))
        assert Image.open(tmp_path / "sheet.png").size[0] == MOMENTS * 132

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--show", "point_robot"], "--show NAME and --out FILE.png go together"),
            (["--out", "a.png"], "--show NAME and --out FILE.png go together"),
            (["--show", "point_robot", "--out", "a.png", "--suite"], "do not go together"),
            (["--show", "point_robt", "--out", "a.png"], "did you mean 'point_robot'"),
            (["--show", "dmc:none-such", "--out", "a.png"], "no task 'dmc:none-such'"),
            (["--show", "gone:Near", "--out", "a.png"], "no module 'gone'"),
            (["--show", "point_robot", "--out", "a.jpg"], "--out a.jpg: the name must end in .png"),
            (["--show", "point_robot", "--out", f"{__file__}/a/b.png"], "is not a directory"),
            (["--show", "point_robot", "--out", "a.png", "--tasks", "0"], "--tasks"),
            (["--show", "point_robot", "--out", "a.png", "--image-size", "48"], "image_size must be one of"),
            (["--show", "point_robot", "--out", "a.png", "--action-repeat", "7"], "must divide the horizon"),
        ],
    )
    def test_bad_input_is_one_line_and_writes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        assert said in refusal("families", *arguments)
        assert list(tmp_path.iterdir()) == []
