"""What trackers are told of a run, read back from their own files, and what happens where one fails."""

from __future__ import annotations

import inspect
import io
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fakes import tiny_config
from PIL import Image
from runs import TINY, at, rows, train, train_counted
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from metaslac.config.sections import Config
from metaslac.config.text import to_dict
from metaslac.errors import MetaslacError
from metaslac.launchers.cli import cli
from metaslac.training.log.run_log import RunLog
from metaslac.training.log.trackers import trackers
from metaslac.training.log.trackers.of_tensorboard import TensorBoard
from metaslac.training.log.trackers.tracker import About, TrackerFault
from metaslac.training.log.trackers.trackers import Trackers, open_trackers


def tracked(names: str) -> Config:
    config = tiny_config()
    return replace(config, runtime=replace(config.runtime, track=names, log_every=1))


class Failing:
    """A tracker that fails when it is told something for the n-th time."""

    id = "7"

    def __init__(self, good: int) -> None:
        self.left, self.calls = good, 0

    def scalars(self, values: Mapping[str, float], update: int) -> None:
        self._told()

    def picture(self, name: str, picture: np.ndarray, update: int) -> None:
        self._told()

    def result(self, values: Mapping[str, float]) -> None:
        self._told()

    def close(self, finished: bool) -> None:
        self._told()

    def _told(self) -> None:
        self.calls += 1
        if self.calls > self.left:
            raise TrackerFault("the network is gone")


@pytest.mark.parametrize("good", [0, 3, 8])
def test_one_that_fails_is_warned_of_once_and_the_run_goes_on_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], good: int
) -> None:
    tracker = Failing(good)
    monkeypatch.setattr(trackers, "_open", lambda name, about, begun: tracker)
    assert train(tmp_path / "tracked", config=tracked("wandb"))
    said = "cannot track with wandb: the network is gone; the run goes on without"
    assert capsys.readouterr().err.splitlines().count(said) == 1
    assert tracker.calls == good + 1
    assert train(tmp_path / "alone", config=tracked(""))
    assert rows(tmp_path / "tracked") == rows(tmp_path / "alone")


def test_what_cannot_be_opened_refuses_a_new_run_and_is_left_out_of_one_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, warned = Failing(9), list[str]()

    def opened(name: str, about: About, begun: str) -> Failing:
        if name == "mlflow":
            raise TrackerFault("nobody is there")
        return closed

    monkeypatch.setattr(trackers, "_open", opened)
    about = About(tmp_path, to_dict(Config()))
    with pytest.raises(MetaslacError, match="^cannot track with mlflow: nobody is there$"):
        open_trackers("wandb,mlflow", about, False, warned.append)
    assert closed.calls == 1 and not warned and not list(tmp_path.iterdir())
    left = open_trackers("wandb,mlflow", about, True, warned.append)
    assert warned == ["cannot track with mlflow: nobody is there; the run goes on without"] and left
    assert json.loads((tmp_path / "trackers.json").read_text()) == {"wandb": "7"}


def test_a_stop_that_comes_when_all_is_done_costs_the_last_picture_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Listening(Failing):
        def _told(self) -> None:
            told.append(inspect.stack()[1].function)

    monkeypatch.setattr(trackers, "_open", lambda name, about, begun: Listening(0))
    asked = train_counted(tmp_path / "alone", tracked(""))
    assert train(tmp_path / "tracked", at(asked + 1), tracked("wandb"))
    assert told[-2:] == ["result", "close"] and "picture" not in told
    assert rows(tmp_path / "tracked") == rows(tmp_path / "alone")


@pytest.mark.parametrize("content", ["", "[]", '{"wandb": 3}'])
def test_damaged_ids_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "trackers.json").write_text(content)
    with pytest.raises(MetaslacError, match=r"trackers\.json"):
        open_trackers("tensorboard", About(tmp_path, to_dict(Config())), False, print)


@pytest.mark.parametrize("command", ["meta-train", "sweep"])
def test_unknown_names_and_missing_extras_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    where = ["--out" if command == "sweep" else "--run-dir", str(tmp_path / "run")]

    def refusal(names: str) -> str:
        result = CliRunner().invoke(cli, [command, "--family=point_robot", f"--track={names}", *where])
        assert (result.exit_code, result.stdout) == (2, "") and not list(tmp_path.iterdir())
        (line,) = result.stderr.splitlines()
        return line

    assert refusal("mlflow,wandbb").endswith("mlflow, not 'wandbb'; did you mean 'wandb'?")
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    assert refusal("wandb").endswith("not installed: pip install 'metaslac[wandb]'")


@pytest.mark.parametrize("error", [TrackerFault("log in first"), ImportError("log in first")])
def test_what_lets_nobody_in_is_refused_and_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refused(name: str, about: About, begun: str) -> Failing:
        (about.directory / "wandb").mkdir()
        assert (about.directory / "config.yaml").exists()
        raise error

    monkeypatch.setattr(trackers, "_open", refused)
    monkeypatch.chdir(tmp_path)
    command = ["meta-train", "--family=point_robot", "--preset=quick", "--track=wandb", "--quiet", *TINY]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 2
    assert result.stderr == "metaslac: cannot track with wandb: log in first\n"
    assert not list(tmp_path.iterdir())


def records(data: bytes) -> Iterator[Event]:
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def test_tensorboard_has_settings_pictures_and_the_result(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    config = tracked("tensorboard")

    def track(warn: Callable[[str], None]) -> Trackers:
        return Trackers(warn, {"tensorboard": TensorBoard(About(tmp_path, to_dict(config)), "")})

    with RunLog(tmp_path, total_updates=3, quiet=True, track=track) as log:
        log.row(3, {"validation/return_1": -2.0, "AverageReturn": -2.0})
        log.result()
        log.trackers.picture("last_episode", picture, 3)
    values: dict[str, list[Any]] = {}
    for path in sorted(tmp_path.glob("events.out.tfevents.*")):
        for event in records(path.read_bytes()):
            for value in event.summary.value:
                values.setdefault(value.tag, []).append((event.step, value))
    ((step, final),) = values["final/validation/return_1"]
    assert (step, final.simple_value) == (3, -2.0)
    ((step, shown),) = values["last_episode"]
    png = Image.open(io.BytesIO(shown.image.encoded_image_string))
    assert step == 3 and np.array_equal(np.asarray(png), picture)
    ((_, begun),) = values["_hparams_/session_start_info"]
    told = HParamsPluginData.FromString(begun.metadata.plugin_data.content).session_start_info.hparams
    assert told["train.updates"].number_value == config.train.updates
    assert told["family.name"].string_value == "fake" and told["task.prior_factor"].bool_value is True
    ((_, columns),) = values["_hparams_/experiment"]
    experiment = HParamsPluginData.FromString(columns.metadata.plugin_data.content).experiment
    assert [metric.name.tag for metric in experiment.metric_infos] == ["AverageReturn"]


def stopped_and_gone_on_with(run_dir: Path, names: str) -> dict[str, str]:
    """A run in two parts; gives the ids of its trackers, which are the same in both."""
    assert not train(run_dir, at(40), tracked(names))
    ids: dict[str, str] = json.loads((run_dir / "trackers.json").read_text())
    assert rows(run_dir) and train(run_dir, config=tracked(names))
    assert json.loads((run_dir / "trackers.json").read_text()) == ids
    return ids


def test_mlflow_has_one_run_of_a_training_in_two_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    from metaslac.training.log.trackers.of_mlflow import MlflowClient

    ids = stopped_and_gone_on_with(tmp_path / "run", "mlflow")
    client = MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("metaslac")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.run_name, run.info.status) == (ids["mlflow"], "run", "FINISHED")
    assert run.data.params["train.updates"] == "6" and run.data.tags["family"] == "fake"
    written = rows(tmp_path / "run")
    told = {point.step: point.value for point in client.get_metric_history(ids["mlflow"], "model/loss")}
    assert told == {int(row["update"]): float(row["model/loss"]) for row in written}
    assert run.data.metrics["final/test/return_2"] == float(written[-1]["test/return_2"])
    (pretraining,) = client.get_metric_history(ids["mlflow"], "pretraining/model/loss")[-1:]
    assert pretraining.step == 0
    picture = client.download_artifacts(ids["mlflow"], "last_episode-6.png", str(tmp_path))
    assert Image.open(picture).size[1] == 3 * 32


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log format, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


def test_wandb_has_one_run_of_a_training_in_two_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_RUN_GROUP", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    ids = stopped_and_gone_on_with(tmp_path / "run", "wandb")
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert [path.name for path in files] == [f"run-{ids['wandb']}.wandb"] * 2
    told, summary, exits = {}, {}, []
    for path in files:
        for record in wandb_records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                assert (record.run.project, record.run.display_name, record.run.run_group) == (
                    *("metaslac", "run", "fake"),
                )
            elif kind == "history":
                row = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
                if "model/loss" in row:
                    told[json.loads(row["update"])] = json.loads(row["model/loss"])
            elif kind == "summary":
                summary |= {item.key or item.nested_key[0]: item.value_json for item in record.summary.update}
            elif kind == "exit":
                exits.append(record.exit.exit_code)
    written = rows(tmp_path / "run")
    assert told == {int(row["update"]): float(row["model/loss"]) for row in written}
    assert json.loads(summary["final/test/return_2"]) == float(written[-1]["test/return_2"])
    assert exits == [1, 0]
    (picture,) = (tmp_path / "run" / "wandb").glob("offline-run-*/files/media/images/last_episode*.png")
    assert Image.open(picture).size[1] == 3 * 32
