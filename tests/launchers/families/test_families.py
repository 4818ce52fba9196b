"""Families of other packages on the command line, really installed and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.plugins import PLUGIN
from reports import ROOT, here, refusal

from metaslac.config.presets import resolve
from metaslac.envs import family_names
from metaslac.launchers.api.training import default_run_dir
from metaslac.storage.checkpoint import load_checkpoint

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
    # Where it is not installed, what it does; not -m metaslac, which looks for modules in `place` first.
    uninstalled = [sys.executable, "-P", "-c", "from metaslac.launchers.cli import main; main()"]
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


class TestPackages:
    def test_working_ones_are_listed_and_broken_ones_below(self, site: Path, tmp_path: Path) -> None:
        done = metaslac(tmp_path, site, "families")
        listed = [line.split()[0] for line in works(done).splitlines()[1:-1]]
        assert listed == sorted({*family_names(), "pkg_near", "pkg_shape"})
        row = next(line for line in done.stdout.splitlines() if line.startswith("pkg_near"))
        assert row.split()[1:-1] == ["goal_x", "3", "0", "1", "8", "2"]
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
        line = refused(metaslac(tmp_path, site, "evaluate", "--checkpoint", str(run), "--split=validation"))
        assert line == "metaslac: --split validation: pkg_near has no validation tasks"
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

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (("[[0.5], [-0.5], [1.0]]", "DRAWN()"), "task_params() gives other tasks at every call; let it"),
            (("[[0.5], [-0.5], [1.0]]", "THEN"), "its tasks are others in every process; let it draw"),
            (("return rng", "return (rng if task.index != 2 else 1 / 0)"), "ZeroDivisionError"),
            (("[[0.25]]", "[[0.25], [float('nan')]]"), "every task's values must be finite"),
        ],
    )
    def test_one_that_could_not_be_evaluated_is_not_trained_on(
        self, tmp_path: Path, change: tuple[str, str], said: str
    ) -> None:
        draw = "DRAWN = lambda: np.random.uniform(-1, 1, (3, 1)).tolist()"
        head = f"import numpy as np\n{draw}\nTHEN = DRAWN()\n"
        assert change[0] in PLUGIN
        (tmp_path / "mine.py").write_text(head + PLUGIN.replace(*change))
        line = refused(metaslac(tmp_path, None, *TRAIN, "--family", "mine:Near"))
        assert said in line
        assert not (tmp_path / "runs").exists()

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
        monkeypatch.setattr("metaslac.training.online.meta_train", lambda *_, **__: None)
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
