"""Families on the command line: listed, drawn, and those of other packages, really installed and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from envs import family_names, make_family
from envs.suite import suite_names
from launchers.cli import cli
from launchers.families import contact_sheet
from launchers.meta_train import default_run_dir
from launchers.picture import MOMENTS
from launchers.presets import resolve
from metaslac.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]

PLUGIN = """\
from envs import TaskFamily
from envs.point_robot import move_point, point_model


class Near(TaskFamily):
    name, param_names = "pkg_near", ("goal_x",)
    action_size, state_size, horizon, frame_skip, camera = 2, 4, 8, 1, "above"

    def task_params(self):
        return [[0.5], [-0.5], [1.0]], [[0.25]]

    def model(self):
        return point_model()

    def start_state(self, model, task, rng):
        return rng.uniform(-1, 1, 2), rng.uniform(0, 0, 2)

    def reward(self, step):
        return -abs(step.after.qpos[:, 0] - step.params[:, 0])

    def apply_action(self, simulation, worlds, actions):
        move_point(simulation, worlds, actions)
"""
BAD_REWARD = PLUGIN.replace("pkg_near", "pkg_shape").replace("step.params[:, 0]", "step.params.T[:, :, None]")

TINY = [
    f"--set={assignment}"
    for assignment in (
        "family.image_size=32",
        "model.base_depth=4",
        "model.feature_size=8",
        "model.z1_size=3",
        "model.z2_size=4",
        "model.hidden_size=8",
        "model.window=3",
        "task.size=2",
        "task.hidden_size=8",
        "actor_critic.hidden_size=8",
        "train.initial_episodes=1",
        "train.pretrain_updates=1",
        "train.updates_per_visit=1",
        "train.model_windows=1",
        "train.windows=2",
        "train.steps_per_batch=1",
        "evaluation.episodes=2",
        "replay.episodes_per_task=4",
    )
]
TRAIN = ["meta-train", "--device", "cpu", "--threads", "1", "--updates", "1", *TINY]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a good package and a broken one are installed."""
    site = tmp_path_factory.mktemp("site")
    families = {"pkg_near": "near:Near"}
    pip_install(site, tmp_path_factory.mktemp("good"), "pkg-near", families, {"near": PLUGIN})
    families = {"pkg_gone": "broken:Gone", "pkg_shape": "shape:Near", "point_robot": "broken:Gone"}
    modules = {"broken": "import a_module_that_nobody_has", "shape": BAD_REWARD}
    pip_install(site, tmp_path_factory.mktemp("bad"), "pkg-broken", families, modules)
    return site


def pip_install(
    site: Path, source: Path, package: str, families: dict[str, str], modules: dict[str, str]
) -> None:
    for name, text in modules.items():
        (source / f"{name}.py").write_text(text)
    entries = [f"{name} = {target}" for name, target in families.items()]
    (source / "setup.py").write_text(
        "from setuptools import setup\n"
        f"setup(name={package!r}, version='1.0', py_modules={list(modules)!r},"
        f" entry_points={{'metaslac.families': {entries!r}}})\n"
    )
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", str(site), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def metaslac(place: Path, site: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, from the directory `place`, with what is installed in `site`."""
    path = [str(ROOT), *([str(site)] if site else [])]
    script = Path(sys.executable).with_name("metaslac")
    # Where it is not installed, what it does; not -m launchers, which looks for modules in `place` first.
    uninstalled = [sys.executable, "-P", "-c", "from launchers.cli import main; main()"]
    return subprocess.run(
        [*([str(script)] if script.exists() else uninstalled), *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def works(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def here(*arguments: str) -> str:
    """What a command that works prints, run in this process."""
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    return line


class TestPackages:
    def test_working_ones_are_listed_and_broken_ones_below(self, site: Path, tmp_path: Path) -> None:
        done = metaslac(tmp_path, site, "families")
        listed = [line.split()[0] for line in works(done).splitlines()[1:-1]]
        assert listed == sorted({*family_names(), "pkg_near", "pkg_shape"})
        row = next(line for line in done.stdout.splitlines() if line.startswith("pkg_near"))
        assert row.split()[1:-1] == ["goal_x", "3", "1", "8", "2"]
        first, second = done.stderr.splitlines()
        package = "of package 'pkg-broken': "
        assert first == f"metaslac: family 'point_robot' {package}metaslac has a family of that name"
        assert second.startswith(f"metaslac: family 'pkg_gone' {package}cannot import broken: ModuleNotFound")

    def test_one_is_trained_on_and_adapted_to(self, site: Path, tmp_path: Path) -> None:
        text = works(metaslac(tmp_path, site, *TRAIN, "--family", "pkg_near"))
        lowered = "train.tasks_per_visit from 8, train.tasks_per_update from 8 to 3"
        assert f"pkg_near has 3 training tasks: lowered {lowered}" in text.splitlines()
        run = tmp_path / "runs/pkg_near-default-infer-s0"
        assert "metaslac adapt --checkpoint runs/pkg_near-default-infer-s0 --episodes 2" in text
        train = load_checkpoint(run).config.train
        assert (train.tasks_per_visit, train.tasks_per_update) == (3, 3)
        works(metaslac(tmp_path, site, "adapt", "--checkpoint", str(run), "--json", "adapt.json"))
        report = json.loads((tmp_path / "adapt.json").read_text())
        assert (report["family"], [task["index"] for task in report["tasks"]]) == ("pkg_near", [3])
        assert report["task_hash"] == load_checkpoint(run).manifest["task_hash"]
        assert all(-17 < value < 0 for value in report["mean_returns"])
        # Where the package is not installed, the checkpoint's name finds nothing.
        assert "unknown family 'pkg_near'" in refused(metaslac(tmp_path, None, "adapt", "--checkpoint", run))

    @pytest.mark.parametrize(
        ("name", "said"), [("pkg_gone", "package 'pkg-broken'"), ("pkg_shape", "reward has shape")]
    )
    def test_a_broken_one_stops_a_run_before_it_starts(
        self, site: Path, tmp_path: Path, name: str, said: str
    ) -> None:
        line = refused(metaslac(tmp_path, site, *TRAIN, "--family", name))
        assert name in line and said in line
        assert list(tmp_path.iterdir()) == []


class TestModules:
    def test_one_in_the_current_directory_from_training_to_evaluation(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(PLUGIN + "\n\nopen('imported', 'a').close()\n")
        mark = tmp_path / "imported"
        text = works(metaslac(tmp_path, None, *TRAIN, "--family", "mine:Near"))
        run = "runs/mine-Near-default-infer-s0"
        assert f"metaslac adapt --checkpoint {run} --family mine:Near --episodes 2" in text
        assert load_checkpoint(tmp_path / run).config.family.name == "mine:Near"
        for command in ("adapt", "evaluate"):
            trial = [command, "--checkpoint", run, "--device", "cpu", "--threads", "1"]
            mark.unlink()
            line = refused(metaslac(tmp_path, None, *trial))
            assert "was trained on mine:Near" in line and "add --family mine:Near" in line
            line = refused(metaslac(tmp_path, None, *trial, "--family", "mine:Other"))
            assert "--family mine:Other" in line and "was trained on mine:Near" in line
            line = refused(metaslac(tmp_path, None, *trial, "--family", "cheetah_vel"))
            assert "--family cheetah_vel" in line
            assert not mark.exists()
            works(metaslac(tmp_path, None, *trial, "--family", "mine:Near"))
            assert mark.exists()

    def test_files_lying_about_offer_no_families(self, site: Path) -> None:
        text = works(metaslac(site, None, "families"))
        assert "pkg_near" not in text

    @pytest.mark.parametrize(
        ("name", "said"),
        [("gone:Near", "no module 'gone'"), ("mine:Far", "no 'Far'"), ("mine:point_model", "no family")],
    )
    def test_what_is_no_family_is_refused(self, tmp_path: Path, name: str, said: str) -> None:
        (tmp_path / "mine.py").write_text(PLUGIN)
        line = refused(metaslac(tmp_path, None, *TRAIN, "--family", name))
        assert repr(name) in line and said in line
        assert not (tmp_path / "runs").exists()


class TestFewTasks:
    def test_presets_are_lowered_and_said_so_but_what_was_asked_for_is_not(self) -> None:
        few = ("meta-train", "--family", "cheetah_dir")
        line = refusal(*few, "--set", "train.tasks_per_visit=8")
        assert line == "metaslac: train.tasks_per_visit is 8, but cheetah_dir has 2 training tasks"
        line = refusal(*few, "--preset", "quick", "--set", "train.tasks_per_update = 3")
        assert line == "metaslac: train.tasks_per_update is 3, but cheetah_dir has 2 training tasks"

    def test_the_lowered_configuration_is_the_one_of_the_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("metaslac.meta_train.meta_train", lambda *_, **__: None)
        arguments = ["meta-train", "--family", "cheetah_dir", "--device", "cpu"]
        text = here(*arguments, "--preset", "quick", "--set", "train.tasks_per_visit=1", "--quiet")
        assert "cheetah_dir has 2 training tasks: lowered train.tasks_per_update from 16 to 2" in text
        variant = json.loads(Path("runs/cheetah_dir-quick-infer-s0/variant.json").read_text())
        assert (variant["train"]["tasks_per_visit"], variant["train"]["tasks_per_update"]) == (1, 2)
        assert "lowered" not in here("meta-train", "--family", "point_robot", "--device", "cpu", "--quiet")


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        ("cheetah_vel", "cheetah_vel-quick-infer-s0"),
        ("dmc:cheetah-run", "dmc-cheetah-run-quick-infer-s0"),
        ("my_package.maze:Maze.Small", "my_package.maze-Maze.Small-quick-infer-s0"),
        ("../x:y", "..-x-y-quick-infer-s0"),
    ],
)
def test_run_directories_have_plain_names(name: str, directory: str) -> None:
    assert default_run_dir(resolve("quick", [f"family.name={name}"]), "quick") == Path("runs") / directory


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
        "import sys; from click.testing import CliRunner; from launchers.cli import cli\n"
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
        env = family.make_vector_env(1)
        expected = [env.reset(seed=[5], options={"tasks": [3]})[0][0]]
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
        assert "... (65)" in first.title and len(first.title) < 140

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
        arguments = ["families", "--show", "point_robot", "--tasks", "3", "--image-size", str(size)]
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
            (["--show", "point_robot", "--out", "no/a.png"], "no does not exist"),
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
