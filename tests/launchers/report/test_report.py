"""`metaslac report`: the page of a real, tiny run and of controls made of its files."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
import shlex
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from fakes import untrained_checkpoint
from reports import EPISODES, ONE_THREAD, changed, evaluate, run

from metaslac.config.presets import resolve
from metaslac.config.text import from_yaml, to_dict
from metaslac.envs import make_family
from metaslac.evidence.evaluation import Comparison
from metaslac.evidence.evaluation_file import read_evaluation
from metaslac.launchers.cli import cli
from metaslac.launchers.media.video import spread
from metaslac.launchers.report.figures import learning
from metaslac.launchers.report.gather import read_run
from metaslac.launchers.report.tables import Gains


class Page(HTMLParser):
    """A page's elements in order, and the text of each of some kinds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {name: [] for name in ("figcaption", "td", "p", "h1", "pre", "a")}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.words:
            self._open.append(tag)
            self.words[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            self._open.remove(tag)

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            self.words[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page_path(family_of_runs: Sequence[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    text = run(
        "report",
        *map(str, family_of_runs),
        "--out",
        str(path),
        "--title",
        "Goals & <b>robots</b>",
        *ONE_THREAD,
    )
    assert re.fullmatch(rf"{re.escape(str(path))}: 4 runs, \d\.\d MB\n", text)
    return path


@pytest.fixture(scope="module")
def page(page_path: Path) -> Page:
    return Page(page_path.read_text())


def rows_of(page: Page) -> list[list[str]]:
    """Cells of each table row, headings in front."""
    rows: list[list[str]] = []
    cells = iter(page.words["td"])
    for tag, _ in page.elements:
        if tag == "tr":
            rows.append([])
        elif tag == "td":
            rows[-1].append(next(cells).strip())
    return rows


def value(text: str) -> float:
    return float(text.replace("−", "-"))


def test_the_first_sentence_has_the_last_returns_and_the_gap(page: Page, family_of_runs: list[Path]) -> None:
    (line,) = (text for text in page.words["p"] if text.startswith("Mean held-out return: "))
    of = dict.fromkeys(("infer", "blind", "oracle"), np.empty(0))
    for evaluation in map(read_evaluation, family_of_runs):
        name = evaluation.about["inference"]
        of[name] = np.append(of[name], evaluation.held_out.returns[..., -1].mean())
    infer, blind, oracle = (values.mean() for values in of.values())
    said = {
        f"to ([^ ]+) in episode {EPISODES};": infer,
        f"never knowing it ([^ ]+) in episode {EPISODES};": blind,
        f"told it ([^ ]+) in episode {EPISODES}\\.": oracle,
        r"closes ([^ ]+) of the gap\.": (infer - blind) / (oracle - blind),
    }
    for words, right in said.items():
        (found,) = re.findall(words, line)
        assert value(found) == pytest.approx(right, abs=0.006)


def test_every_option_has_help_and_shows_its_default() -> None:
    text = " ".join(run("report", "--help").split())
    options = [entry for entry in cli.commands["report"].params if isinstance(entry, click.Option)]
    assert len(options) == 7 and all(option.help for option in options)
    assert text.count("[default: ") + text.count("[required]") == len(options)


def test_the_page_needs_nothing_but_itself(page: Page, page_path: Path) -> None:
    addresses = [
        attributes[name]
        for _, attributes in page.elements
        for name in ("src", "href", "poster", "data", "action", "srcset")
        if name in attributes
    ]
    assert len(addresses) > 50
    assert all(address.startswith(("data:", "#")) for address in addresses)
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert all(address[1:] in targets for address in addresses if address.startswith("#"))
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    assert page_path.stat().st_size < 3e6


def test_what_people_wrote_is_text(page: Page) -> None:
    assert page.words["h1"] == ["Goals & <b>robots</b>"]
    assert not page.all("b")


def test_pictures_have_words_and_headings_have_order(page: Page) -> None:
    assert all(image["alt"] for image in page.all("img"))
    assert all(film["aria-label"] for film in page.all("video"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(levels[:-1], levels[1:], strict=True))


def test_the_numbers_are_those_of_the_evaluations(page: Page, evaluated_run: Path) -> None:
    returns = read_evaluation(evaluated_run).held_out.returns  # (tasks, trials, episodes)
    rows = [row for row in rows_of(page) if len(row) == 5 and " to " in row[3]]
    assert len(rows) == 3 * EPISODES  # evaluated_run, blind, oracle
    for number, row in enumerate(rows):
        kind, episode = divmod(number, EPISODES)
        shifts = ([0, 1], [-2], [6])[kind]
        each = [returns[..., episode].mean() + shift for shift in shifts]
        assert int(row[0]) == episode + 1
        assert value(row[1]) == pytest.approx(np.mean(each), abs=0.006)
        middle = np.sort(np.concatenate([returns[..., episode].ravel() + shift for shift in shifts]))
        quarter = len(middle) // 4
        assert value(row[2]) == pytest.approx(middle[quarter:-quarter].mean(), abs=0.006)
        low, high = map(value, row[3].split(" to "))
        assert low < value(row[2]) < high
        shown = [value(text) for text in re.findall(r"([−\d.]+) \(s\d\)", row[4])]
        assert shown == pytest.approx(each, abs=0.006)


def test_the_gap_is_that_of_the_means(page: Page) -> None:
    rows = [row for row in rows_of(page) if len(row) == 3 and "(" in row[1] and "(" in row[2]]
    assert len(rows) == EPISODES
    for row in rows:  # 0.5 above the run that all are made of, between -2 and +6
        assert value(row[1].split(" (")[0]) == pytest.approx(2.5 / 8, abs=0.006)
        assert value(row[2].split(" (")[0]) == pytest.approx(2.5, abs=0.006)


def test_returns_to_read_them_by_are_below_the_table_and_in_the_charts(page: Page) -> None:
    (told,) = [text for text in page.words["p"] if text.startswith("To read them by")]
    shown = {
        words: value(number) for words, number in re.findall(r"(perfect play|best blind play) (\S+)", told)
    }
    family = make_family("point_robot")
    known = {name: number for name, number, _ in family.known_references(family.test_tasks)}
    assert shown == pytest.approx(known, abs=0.006)
    (chart,) = [image["alt"] for image in page.all("img") if image["alt"].startswith("Interquartile")]
    assert "Dashed, perfect play: −4.63. Dashed, best blind play: −14.36" in chart


def test_where_there_is_no_gap_the_table_says_so() -> None:
    gaps = [
        Comparison(1, math.nan, 0.1, 0.2, 0.75),
        Comparison(2, 0.5, -1.0, 0.75, 0.031),
        Comparison(3, *[math.nan] * 4),
    ]
    gained = [Comparison(e, -1.0, -2.0, 0.5, 0.0) for e in (1, 2, 3)]
    rows = Gains(gaps, gained, "").rows
    assert [row.gap for row in rows] == [
        "undefined: oracle is not above blind",
        "0.50 (−1.00 to 0.75; undefined in 3.1 % of resamples)",
        "undefined",
    ]
    assert {row.difference for row in rows} == {"−1.00 (−2.00 to 0.50)"}


def test_films_are_the_first_trials_of_the_evaluation(page: Page, evaluated_run: Path) -> None:
    held_out = read_evaluation(evaluated_run).held_out
    texts = [text for text in page.words["figcaption"] if re.match(r"Episode \d: return", text)]
    shown = np.array([value(text.rpartition(" ")[2]) for text in texts]).reshape(-1, EPISODES)
    chosen = [list(held_out.tasks).index(task) for task in spread(held_out.tasks, 4)]
    np.testing.assert_allclose(shown, held_out.returns[chosen, 0], atol=0.01)
    films = [base64.b64decode(film["src"].partition(",")[2]) for film in page.all("video")]
    assert len(films) == shown.size
    for film in films:
        assert film[4:8] == b"ftyp" and 0 < film.index(b"moov") < film.index(b"mdat")  # plays while it loads


def test_the_raw_numbers_can_be_taken_along(page: Page, family_of_runs: Sequence[Path]) -> None:
    links = [link for link in page.all("a") if "download" in link]
    assert len(links) == 2 * len(family_of_runs)
    for directory in family_of_runs:
        for name in ("evaluation.json", "progress.csv"):
            (link,) = [link for link in links if link["download"] == f"{directory.name}-{name}"]
            assert base64.b64decode(link["href"].partition(",")[2]) == (directory / name).read_bytes()


def test_raw_numbers_that_are_too_many_are_compressed_then_cut(
    family_of_runs: Sequence[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from metaslac.launchers.report.downloads import downloads
    from metaslac.launchers.report.gather import read_runs

    read = read_runs(family_of_runs)
    whole = {(run.name, name): data for run in read for name, data in run.files.items()}
    for most, note in ((150_000, ""), (1, "without belief_width")):
        monkeypatch.setattr("metaslac.launchers.report.downloads.MOST_BYTES", most)
        files = downloads(read)
        assert len(files) == len(whole)
        for file in files:
            name = file.name.removesuffix(".gz")
            data = gzip.decompress(base64.b64decode(file.source.partition(",")[2]))
            original = whole[file.run, name]
            if not note or name == "progress.csv":
                assert data == original and not file.note
                continue
            assert file.note == note
            cut, values = json.loads(data), json.loads(original)
            for part in ("held_out", "training"):
                del values[part]["belief_width"]
            assert cut == values


def test_the_training_command_gives_the_same_settings(page: Page, evaluated_run: Path) -> None:
    (command,) = [text for text in page.words["pre"] if "--task-inference infer --seed 0" in text]
    words = shlex.split(command)
    assert words[:2] == ["metaslac", "meta-train"]
    options = dict(zip(words[2:8:2], words[3:8:2], strict=True))
    names = {"--family": "family.name", "--task-inference": "task.inference", "--seed": "train.seed"}
    assignments = [f"{names[option]}={text}" for option, text in options.items()]
    assert words[8:10] == ["--run-dir", str(evaluated_run)] and set(words[10::2]) == {"--set"}
    again = resolve("default", [*assignments, *words[11::2]])
    trained = from_yaml((evaluated_run / "config.yaml").read_text())
    assert {**to_dict(again), "runtime": None} == {**to_dict(trained), "runtime": None}


def test_settings_in_which_runs_differ_come_first(page: Page) -> None:
    names = [row for row in rows_of(page) if len(row) == 4 and row[0] == "infer"]
    assert names[0] == ["infer", "infer", "blind", "oracle"]


def test_a_single_blind_run_has_a_page(tmp_path: Path) -> None:
    directory = tmp_path / "alone"
    family = make_family("point_robot", image_size=32)
    untrained_checkpoint(directory / "checkpoints/1", family, inference="blind")
    header = "update,env_steps,test/return_1,test/return_2,time/seconds"
    (directory / "progress.csv").write_text(f"{header}\n1,1,,,2.5\n")
    evaluate(directory, "--no-training-tasks", "--trials", "1")
    evaluation = json.loads((directory / "evaluation.json").read_text())
    (directory / "evaluation.json").write_text(json.dumps({**evaluation, "update": 0}))
    out = tmp_path / "alone.html"
    run("report", str(directory), "--out", str(out), *ONE_THREAD)
    page = Page(out.read_text())
    notes = " ".join(page.words["p"])
    assert "There is no infer and no oracle run here" in notes
    assert "there is no belief" in notes and "none explores" in notes and "No returns in progress" in notes
    assert "evaluation is of update 0; films and pictures are of its last checkpoint, update 1" in notes
    assert page.words["h1"] == ["metaslac: point_robot"]
    assert "as it was evaluated in one trial: that all agents rise or dip together" in notes
    assert len(page.all("video")) == 4 * EPISODES


def test_of_several_trials_nothing_is_said_of_the_one(page: Page) -> None:
    notes = " ".join(page.words["p"])
    assert "All runs have the same starts" in notes and "in one trial" not in notes


def test_learning_says_which_tasks_it_is_of(page: Page, evaluated_run: Path, tmp_path: Path) -> None:
    assert any("Return on validation tasks while training" in text for text in page.words["p"])
    assert any(image["alt"].startswith("Validation return of episode 2 over") for image in page.all("img"))
    younger = read_run(evaluated_run)
    shutil.copytree(evaluated_run, tmp_path / "older", symlinks=True)
    shutil.rmtree(tmp_path / "older/checkpoints")  # which have rows of their own
    rows = tmp_path / "older/progress.csv"
    rows.write_text(rows.read_text().replace("validation/", "test/"))
    older = read_run(rows.parent)
    assert learning([older], {}).tasks == "held-out"
    both = learning([older, younger], {})
    assert both.tasks == "validation and held-out"
    for part in both.parts.values():
        assert [chart.title for chart in part.charts] == [
            f"Episode {episode}, {tasks} tasks" for tasks in ("validation", "held-out") for episode in (1, 2)
        ]


def test_an_episode_without_a_return_is_told(evaluated_run: Path, tmp_path: Path) -> None:
    def lose_one(returns: np.ndarray) -> np.ndarray:
        lost = returns.copy()
        lost[3, 1, 1] = np.nan
        return lost

    directory = changed(evaluated_run, "blind", 7, lose_one)
    out = tmp_path / "lost.html"
    run("report", str(evaluated_run), str(directory), "--out", str(out), *ONE_THREAD)
    page = Page(out.read_text())
    assert any("blind-7: 1 held-out episodes diverged" in text for text in page.words["p"])
    rows = [row for row in rows_of(page) if len(row) == 5 and row[0] in ("1", "2")]
    assert [row[1] == row[3] == "undefined" for row in rows] == [False, False, False, True]
