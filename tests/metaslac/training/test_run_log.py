"""What a run leaves for people: rows that never change shape, lines on the screen, TensorBoard events."""

from __future__ import annotations

import csv
import math
import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from metaslac.training import run_log
from metaslac.training.run_log import TIME_COLUMNS, LogState, RunLog


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
    monkeypatch.setattr(run_log, "SECONDS_BETWEEN_LINES", 0.0)
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
    monkeypatch.setattr(run_log, "SECONDS_BETWEEN_LINES", 0.0)
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
    assert "pre-training=1/2" in printed and "4/4" in printed and "validation=-1.0" in printed


def test_quiet_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(tmp_path, total_updates=1, quiet=True) as log:
        log.row(1, {"test/return_1": 1.0})
        log.progress(1, {"a": "b"})
        log.message("nothing")
    assert capsys.readouterr() == ("", "")
