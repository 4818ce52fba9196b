"""What a sweep consists of, on disks and among files that are not as they should be."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import EPISODES, TRIALS, evaluation

from metaslac.acting.adaptation import EVALUATION_STREAM
from metaslac.config.sections import Config
from metaslac.config.text import to_dict
from metaslac.errors import MetaslacError
from metaslac.evidence.evaluation_file import Evaluation, Trials, write_evaluation
from metaslac.launchers.sweep.plan import Sweep, begun, check_out
from metaslac.training.run_directory import start_run_directory


def plan(out: Path, trials: int = 1) -> Sweep:
    return Sweep(out, [Config()], range(1), [], [], episodes=EPISODES, trials=trials)


def test_one_sweep_at_a_time_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    told: list[str] = []
    sweep = plan(tmp_path / "sweep")
    for _ in range(2):
        with begun(sweep, told.append):
            with pytest.raises(MetaslacError, match=f"is in use: .* \\(process {os.getpid()}, says "):
                begun(sweep, told.append).__enter__()
            check_out(sweep)
    assert len(told) == 2 and "no locks in" in told[0]
    (tmp_path / "sweep" / "sweep.json").unlink()
    (tmp_path / "sweep" / ".lock.owner").write_text("left by a machine that broke down")
    check_out(sweep)


def test_evaluations_that_are_not_as_asked_are_not_lost(tmp_path: Path) -> None:
    sweep = plan(tmp_path, trials=2)
    (run,) = sweep.runs()
    (tmp_path / "sweep.json").write_text(json.dumps({"format": 1, "settings": to_dict(Config())}))
    start_run_directory(run.directory, run.config, {})
    check_out(sweep)
    done = run.config.train.updates
    for found, said in (
        ({"trials": 9}, "trials (9, 2)"),
        ({"update": 3}, f"update (3, {done})"),
        ({"stream": 1}, f"stream (1, {EVALUATION_STREAM})"),  # by an earlier version
    ):
        about = {"trials": 2, "update": done, "stream": EVALUATION_STREAM, **found}
        given = evaluation(**about)
        part = Trials(given.held_out.tasks, *(resized(values, about["trials"]) for values in arrays(given)))
        write_evaluation(run.directory / "evaluation.json", Evaluation(given.about, part, None))
        with pytest.raises(MetaslacError) as caught:
            check_out(sweep)
        assert f"{said} (there, asked for); --overwrite replaces it" in str(caught.value)
        check_out(replace(sweep, overwrite=True))
    assert [step.arguments[-1] for step in replace(sweep, overwrite=True).job(run).steps] == [
        str(run.directory),
        "--overwrite",
    ]


def arrays(found: Evaluation) -> list[np.ndarray]:
    trials = found.held_out
    return [trials.params, trials.returns, trials.belief_mean, trials.belief_width]


def resized(values: np.ndarray, trials: int) -> np.ndarray:
    """With so many trials, if it has trials."""
    return np.repeat(values[:, :1], trials, axis=1) if values.shape[1] == TRIALS else values
