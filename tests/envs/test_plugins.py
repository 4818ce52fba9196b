"""Families of other packages, by entry points or as module:attribute: good ones and broken ones."""

import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from helpers.plugins import PLUGIN

from metaslac import envs
from metaslac.envs import registry
from metaslac.envs.gymnasium_ids import register

GOOD = PLUGIN.replace(", [1.0]]", "]").replace("= 2, 4, 8, 1", "= 2, 4, 6, 1")  # two tasks, six steps


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to import from, forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def install(site: Path, package: str, entries: str, **modules: str) -> None:
    """What pip leaves of a package: its modules, and its metadata with these entry points."""
    for name, text in modules.items():
        (site / f"{name}.py").write_text(text)
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[metaslac.families]\n{entries}\n")


def refusal(name: str) -> str:
    """The line with which a family is refused."""
    with pytest.raises(envs.FamilyError) as caught:
        envs.make_family(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_package_adds_a_family(site: Path) -> None:
    before = envs.family_names()
    install(site, "pkg-near", "pkg_near = near:Near", near=GOOD)
    assert envs.family_names() == tuple(sorted((*before, "pkg_near")))
    family = envs.make_family("pkg_near", image_size=32, action_repeat=2)
    assert (type(family).__module__, family.episode_steps) == ("near", 3)
    with_env = envs.make_vector_env(family, 2)
    with_env.reset(seed=0, options={"task": [0, 2]})
    x = with_env.worlds.simulation.qpos[:, 0].copy()  # type: ignore[attr-defined]
    frames, rewards, *_ = with_env.step(np.array([[1.0, 0.0], [-0.5, 0.0]]))
    expected = [
        -sum(abs(x[0] + 0.1 * k - 0.5) for k in (1, 2)),
        -sum(abs(x[1] - 0.05 * k - 0.25) for k in (1, 2)),
    ]
    np.testing.assert_allclose(rewards, expected)
    assert frames.shape == (2, 32, 32, 3)
    with_env.close()


def test_a_package_is_imported_only_when_its_family_is_asked_for(site: Path) -> None:
    install(site, "pkg-near", "pkg_near = near:Near", near=GOOD)
    assert "pkg_near" in envs.family_names()
    register()
    envs.make_family("point_robot")
    with pytest.raises(envs.UnknownFamilyError, match="pkg_near.*did you mean 'pkg_near'"):
        envs.make_family("pkg_nea")
    assert "near" not in sys.modules
    env = gymnasium.make("metaslac/PkgNear-v0", image_size=32)
    assert "near" in sys.modules
    assert env.reset(seed=0)[0].shape == (32, 32, 3)
    env.close()
    del gymnasium.registry["metaslac/PkgNear-v0"]


BROKEN = {
    "no_module": ("gone:Near", "there is no module 'gone'"),
    "no_attribute": ("near:Far", "near has no 'Far'"),
    "no_colon": ("near", "write module:attribute"),
    "no_import": ("bad:Near", "cannot import bad: ZeroDivisionError: division by zero ("),
    "no_dependency": ("needs:Near", "cannot import needs: ModuleNotFoundError: No module named 'nowhere'"),
    "no_syntax": ("typo:Near", "cannot import typo: SyntaxError"),
    "no_return": ("leaves:Near", "cannot import leaves: SystemExit: 3"),
    "no_class": ("near:point_model", "near:point_model is no family"),
    "no_family": ("near:TaskFamily", "near:TaskFamily is no family"),
    "no_same_name": ("near:Near", "near:Near calls itself 'pkg_near'"),
    "no_reward": ("lacks:Near", "lacks:Near lacks camera, reward"),
    "no_horizon": ("short:Near", "short:Near: horizon must be a positive integer, not 0"),
    "no_tuple": ("names:Near", "names:Near: param_names must be a tuple of names, not 'goal'"),
}
BROKEN_MODULES = {
    "bad": "1 / 0",
    "needs": "import nowhere.at_all",
    "typo": "class (",
    "leaves": "raise SystemExit(3)",
    "lacks": GOOD.replace("reward", "rewards").replace(", camera", ", kamera"),
    "short": GOOD.replace("2, 4, 6", "2, 4, 0"),
    "names": GOOD.replace('("goal_x",)', '("goal")'),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_family_is_named_with_its_package_and_hurts_no_other(site: Path, name: str) -> None:
    install(site, "pkg-near", "pkg_near = near:Near", near=GOOD)
    entries = "\n".join(f"{entry} = {target}" for entry, (target, _) in BROKEN.items())
    install(site, "pkg-broken", entries, **BROKEN_MODULES)
    message = refusal(name)
    assert message.startswith(f"family {name!r} of package 'pkg-broken': ")
    assert BROKEN[name][1] in message
    assert registry.refused_offers() == ()
    assert envs.make_family("pkg_near").name == "pkg_near"


def test_an_error_of_an_import_says_where_it_was(site: Path) -> None:
    install(site, "pkg-broken", "broken = bad:Near", bad="\n\n1 / 0")
    assert f"({site / 'bad.py'}, line 3)" in refusal("broken")


def test_names_that_are_taken_or_no_names_are_refused_unimported(site: Path) -> None:
    before = envs.family_names()
    install(site, "pkg-thief", "point_robot = bad:Near", bad="1 / 0")
    install(site, "pkg-one", "twice = bad:Near")
    install(site, "pkg-two", "twice = bad:Near")
    install(site, "pkg-shout", "Point_Robot = bad:Near")
    assert envs.family_names() == before
    assert sorted(registry.refused_offers()) == [
        "family 'Point_Robot' of package 'pkg-shout': a name is lower-case letters, digits and _",
        "family 'point_robot' of package 'pkg-thief': metaslac has a family of that name",
        "family 'twice' of package 'pkg-one': package 'pkg-two' has a family of that name too",
    ]
    assert refusal("twice") in registry.refused_offers()
    assert type(envs.make_family("point_robot")).__module__ == "metaslac.envs.families.point_robot"
    assert "bad" not in sys.modules


def test_entry_points_that_cannot_be_read_are_reported(site: Path) -> None:
    install(site, "pkg-near", "pkg_near = near:Near", near=GOOD)
    install(site, "pkg-garbled", "no equals sign here")
    (line,) = registry.refused_offers()
    assert line.startswith("package 'pkg-garbled': its entry_points.txt cannot be read: ")
    assert "pkg_near" in envs.family_names()


def test_a_package_met_twice_on_the_path_is_one(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "pkg-near", "pkg_near = near:Near", near=GOOD)
    (site / "second").mkdir()
    install(site / "second", "Pkg_Near", "pkg_near = near:Near")
    monkeypatch.syspath_prepend(str(site / "second"))
    assert registry.refused_offers() == ()
    assert envs.make_family("pkg_near").name == "pkg_near"


def test_a_family_is_found_in_a_module(site: Path) -> None:
    (site / "near.py").write_text(GOOD + "\nclass shelf:\n    Inner = Near\n")
    family = envs.make_family("near:Near", image_size=32)
    assert (family.name, family.image_size) == ("pkg_near", 32)
    assert type(envs.make_family("near:shelf.Inner")) is type(family)
    assert "pkg_near" not in envs.family_names()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone:Near", "there is no module 'gone'"),
        ("near.far:Near", "there is no module 'near.far'"),
        ("near:Far", "near has no 'Far'"),
        ("near:Near.name.x", "near has no 'Near.name.x'"),
        ("near:np", "near has no 'np'"),
        ("near:TaskFamily", "is no family"),
        ("lacks:Near", "lacks camera, reward"),
        ("bad:Near", "cannot import bad: ZeroDivisionError"),
        ("near:", "write module:attribute"),
        (":Near", "write module:attribute"),
        (".near:Near", "write module:attribute"),
        ("near:Near:Near", "write module:attribute"),
    ],
)
def test_a_module_without_a_family_is_refused(site: Path, name: str, said: str) -> None:
    for module, text in {"near": GOOD, **BROKEN_MODULES}.items():
        (site / f"{module}.py").write_text(text)
    message = refusal(name)
    assert message.startswith(f"family {name!r}: ")
    assert said in message


def test_which_names_import_what_they_name() -> None:
    assert registry.names_a_module("near:Near")
    assert not registry.names_a_module("dmc:cheetah-run")
    assert not registry.names_a_module("cheetah_vel")


def test_bytes_that_are_no_text_in_another_package_hurt_nobody(site: Path) -> None:
    install(site, "pkg-near", "pkg_near = near:Near", near=GOOD)
    install(site, "pkg-other", "")
    (site / "pkg_other-1.0.dist-info" / "entry_points.txt").write_bytes(
        b"[console_scripts]\n\xff\xfe = x:y\n"
    )
    assert "pkg_near" in envs.family_names()


def test_a_module_cannot_pass_for_a_family_of_ours(site: Path) -> None:
    (site / "near.py").write_text(GOOD.replace("pkg_near", "point_robot"))
    assert "near:Near' calls itself 'point_robot', which is a family of metaslac" in refusal("near:Near")
    assert envs.make_family("metaslac.envs.families.point_robot:PointRobot").name == "point_robot"
