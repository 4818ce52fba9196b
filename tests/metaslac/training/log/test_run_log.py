"""What a run leaves for people: rows that never change shape, lines on the screen, TensorBoard events."""

from __future__ import annotations

import csv
import math
import re
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from metaslac.config.schedule import TrainConfig
from metaslac.config.sections import Config
from metaslac.training.log import outlets, run_log
from metaslac.training.log.outlets import duration
from metaslac.training.log.run_log import TIME_COLUMNS, LogState, Pace, RunLog


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "progress.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def events(run_dir: Path) -> list[tuple[str, int, float]]:
    """Every scalar in the event file, read by the record format itself."""
    (path,) = run_dir.glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        data = data[16 + length :]
    return found


def test_numbers_read_back_as_they_were(tmp_path: Path) -> None:
    values = {"model/loss": 0.1 + 0.2, "critic/loss": 1e-300, "env_steps": 12_345_678_901, "odd": math.nan}
    with RunLog(tmp_path, total_updates=2, quiet=True) as log:
        log.row(1, values)
    (row,) = rows(tmp_path)
    assert int(row["update"]) == 1 and row["env_steps"] == "12345678901"
    assert float(row["model/loss"]) == 0.1 + 0.2 and float(row["critic/loss"]) == 1e-300
    assert math.isnan(float(row["odd"]))


def test_a_row_can_be_read_as_soon_as_it_was_logged(tmp_path: Path) -> None:
    with RunLog(tmp_path, total_updates=2, quiet=True) as log:
        log.row(1, {"a": 1.0})
        assert len(rows(tmp_path)) == 1


def as_viskit_reads(run_dir: Path) -> dict[str, list[float]]:
    """Columns of numbers; what is no number is taken for zero."""
    columns: dict[str, list[float]] = {}
    for row in rows(run_dir):
        for name, cell in row.items():
            try:
                number = float(cell)
            except ValueError:
                number = 0.0
            columns.setdefault(name, []).append(number)
    return columns


def test_other_tools_take_what_is_not_there_for_no_number(tmp_path: Path) -> None:
    with RunLog(tmp_path, total_updates=3, quiet=True) as log:
        log.row(1, {"test/return_1": None, "AverageReturn": None})
        log.row(2, {"test/return_1": -9.0, "AverageReturn": -9.0})
        log.row(3, {})
    read = as_viskit_reads(tmp_path)
    for name in ("test/return_1", "AverageReturn"):
        before, there, after = read[name]
        assert there == -9.0 and math.isnan(before) and math.isnan(after)
    assert not any(cell == "" for row in rows(tmp_path) for cell in row.values())


def test_a_run_from_before_there_was_an_average_return_goes_on_without(tmp_path: Path) -> None:
    older = LogState("update,test/return_1,time/seconds,time/updates_per_second\n1,,1.0,1.0\n", 1.0, 1)
    with RunLog(tmp_path, total_updates=2, quiet=True, state=older) as log:
        log.row(2, {"test/return_1": -9.0, "AverageReturn": -9.0})
    assert [row["test/return_1"] for row in rows(tmp_path)] == ["", "-9.0"]


def test_the_first_row_fixes_the_columns_and_nan_fills_the_gaps(tmp_path: Path) -> None:
    with RunLog(tmp_path, total_updates=3, quiet=True) as log:
        log.row(1, {"a": 1.0, "b": None})
        log.row(2, {"b": 2.0})
        with pytest.raises(ValueError, match="no column c"):
            log.row(3, {"a": 1.0, "c": 3.0})
    assert [(row["a"], row["b"]) for row in rows(tmp_path)] == [("1.0", "nan"), ("nan", "2.0")]


def test_only_the_times_differ_between_equal_runs(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with RunLog(tmp_path / name, total_updates=2, quiet=True) as log:
            for update in (1, 2):
                log.row(update, {"a": update / 3})
    one, two = (
        [{k: v for k, v in row.items() if k not in TIME_COLUMNS} for row in rows(tmp_path / n)]
        for n in ("one", "two")
    )
    assert one == two
    assert all(float(row["time/seconds"]) >= 0 for row in rows(tmp_path / "one"))


def test_events_hold_the_same_numbers(tmp_path: Path) -> None:
    with RunLog(tmp_path, total_updates=2, quiet=True) as log:
        log.pretraining(5, 10, {"model/loss": 2.5})
        log.row(1, {"model/loss": 0.5})
    found = events(tmp_path)
    assert ("pretraining/model/loss", -5, 2.5) in found
    assert ("model/loss", 1, 0.5) in found


def test_without_a_terminal_progress_is_a_few_plain_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunLog(tmp_path, total_updates=100) as log:
        for update in range(1, 101):
            log.progress(update, {"env steps": str(update * 20)})
        log.message("a line that stays")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "\r" not in printed.err
    last, message = printed.err.splitlines()
    assert last.startswith("update 100/100  ") and last.endswith("updates/s  env steps 2000")
    assert message == "a line that stays"


def test_a_line_is_printed_every_so_often(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlets, "SECONDS_BETWEEN_LINES", 0.0)
    with RunLog(tmp_path, total_updates=100) as log:
        log.progress(1, {})
        log.progress(2, {})
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(("split", "called"), [("test", "held-out"), ("validation", "validation")])
def test_an_evaluation_is_told_and_stays_in_the_progress(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    split: str,
    called: str,
) -> None:
    found = {f"{split}/return_1": -15.0, f"{split}/return_2": -9.0}
    monkeypatch.setattr(outlets, "SECONDS_BETWEEN_LINES", 0.0)
    with RunLog(tmp_path, total_updates=9) as log:
        log.row(1, {"env_steps": 20, "model/loss": 3.25, **found})
        log.row(2, {"env_steps": 40, "model/loss": 3.0})
    told, first, second = capsys.readouterr().err.splitlines()
    assert told == f"update 1: {called} return of each episode: -15.0, -9.0"
    assert f"env steps 20  {called} -15.0, -9.0  model/loss 3.25" in first
    assert f"env steps 40  {called} -15.0, -9.0  model/loss 3" in second


def test_on_a_terminal_progress_is_one_live_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with RunLog(tmp_path, total_updates=4) as log:
        log.pretraining(1, 2, {"model/loss": 1.0})
        for update in range(1, 5):
            log.row(update, {"env_steps": update, "validation/return_1": -1.0})
    printed = capsys.readouterr().err
    assert "pre-training" in printed and "1/2" in printed and "model/loss=1" in printed
    assert "4/4" in printed and "validation=-1.0" in printed


def test_quiet_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(tmp_path, total_updates=1, quiet=True) as log:
        log.row(1, {"test/return_1": 1.0})
        log.progress(1, {"a": "b"})
        log.message("nothing")
    assert capsys.readouterr() == ("", "")


class Clock:
    """Time as the test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (run_log, outlets):
        monkeypatch.setattr(module.time, "monotonic", clock)
    return clock


def test_lines_say_how_fast_it_goes_and_what_is_left_in_pretraining_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with RunLog(tmp_path, total_updates=1000) as log:
        clock.now += 500  # of episodes
        for update in range(201):
            log.pretraining(update, 200, {"model/loss": 2.0} if update == 50 else None)
            clock.now += 0.5
        clock.now += 99.5
        for update in range(0, 101):
            log.progress(update)
            clock.now += 4 if update < 50 else 12
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "pre-training 60/200  2.00 updates/s  70 s left  model/loss 2"
    assert lines[3].startswith("pre-training 200/200  2.00 updates/s  model/loss 2")
    # Fast at first and slow since: the rate is of the time since the line before, what is left of all.
    assert lines[4].startswith("update 8/1000  0.25 updates/s  66 min left  ")
    assert lines[-1].startswith("update 100/1000  0.08 updates/s  2 h 00 min left  ")
    assert not [line for line in lines if " 0.00 updates/s" in line]


def test_a_standstill_is_no_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    with RunLog(tmp_path, total_updates=100) as log:
        log.progress(0)
        clock.now += 31
        log.progress(5)
        clock.now += 300  # an evaluation
        log.row(5, {"validation/return_1": -1.0})
    told, evaluated = capsys.readouterr().err.splitlines()
    assert told == "update 5/100  0.16 updates/s  10 min left" and "validation return" in evaluated


def test_a_terminal_shows_how_fast_pretraining_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with RunLog(tmp_path, total_updates=100) as log:
        for update in range(4):
            log.pretraining(update, 8)
            time.sleep(0.15)  # the bar is drawn ten times a second
    last = capsys.readouterr().err.split("\r")[-1]
    assert re.search(r"pre-training: .*3/8 \[00:00<00:0\d, +\d+\.\d+update/s", last), last


def told(
    clock: Clock, train: TrainConfig, pretraining: float, updates: float, hint: str = "; hint"
) -> list[str]:
    """What a whole run says where each update of pre-training, and each later one, takes so many seconds."""
    lines: list[str] = []
    pace = Pace(train, lines.append, hint)
    pace.begin(0)
    for done in range(1, train.pretrain_updates + 1):
        clock.now += pretraining
        pace.pretraining(done)
    pace.begin(0)
    for done in range(1, train.updates + 1):
        clock.now += updates
        pace.updates(done)
    return lines


def test_how_long_a_run_will_take_is_said_after_its_first_updates(clock: Clock) -> None:
    assert told(clock, Config().train, 0.5, 1.25) == [
        # 989 updates more; then 20,000 that train the model on twice as many windows
        "pre-training: 2.00 updates/s, about 8 min more, then 20000 updates in at least 5 h 33 min; hint",
        "updates left: 19960, at 0.80 updates/s about 6 h 56 min without evaluations; hint",
    ]
    assert told(clock, replace(Config().train, updates=1000, freeze_encoder=True), 0.1, 0.125) == [
        "pre-training: 10.00 updates/s, about 2 min more",
        "updates left: 960, at 8.00 updates/s about 2 min without evaluations",
    ]


def test_the_first_update_of_pretraining_is_not_taken_for_the_others(clock: Clock) -> None:
    lines: list[str] = []
    pace = Pace(replace(Config().train, pretrain_updates=1000), lines.append)
    pace.begin(0)
    for done in range(1, 20):
        clock.now += 30.0 if done == 1 else 0.5
        pace.pretraining(done)
    (line,) = lines
    assert line.startswith("pre-training: 2.00 updates/s, about 8 min more, ")


def test_of_a_short_run_no_duration_is_told_that_evaluations_would_belie(clock: Clock) -> None:
    assert told(clock, replace(Config().train, pretrain_updates=20, updates=20), 0.1, 0.5) == []
    assert told(clock, replace(Config().train, pretrain_updates=600, updates=20), 0.125, 0.5) == [
        "pre-training: 8.00 updates/s, about 74 s more, then 20 updates"
    ]


def test_slow_first_updates_are_not_waited_for(clock: Clock) -> None:
    first, second = told(clock, replace(Config().train, pretrain_updates=20, updates=100), 25, 40)
    assert first.startswith(
        "pre-training: 0.04 updates/s, about 7 min more, then 100 updates in at least 83 min"
    )  # after 4, of which the first is not counted
    assert second == "updates left: 98, at 0.03 updates/s about 65 min without evaluations; hint"  # after 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (89.4, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1 h 30 min"),
        (7260, "2 h 01 min"),
        (3e5, "3.5 days"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
