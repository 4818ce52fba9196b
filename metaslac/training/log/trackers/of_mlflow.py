"""MLflow: on the server that MLFLOW_TRACKING_URI names, or in files beside the run directory."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress

# Before the import, which reads them. MLflow's own would keep a training waiting for many minutes where the
# network is gone; and it has files for a store only where that is asked for.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Metric, Param, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

from metaslac.training.log.trackers.tracker import About, Picture, translated  # noqa: E402

EXPERIMENT = "metaslac"
STORE = "mlruns"
MOST_PARAMS = 100  # at a time
FAULTS = (OSError, RuntimeError, ValueError, MlflowException)


class MLflow:
    """A run of MLflow's, in the experiment MLFLOW_EXPERIMENT_NAME or `metaslac`.

    Args:
        about: of the run.
        begun: the id of the run that is gone on with; empty for a new one.
    """

    @translated(*FAULTS)
    def __init__(self, about: About, begun: str) -> None:
        files = (about.directory.resolve().parent / STORE).as_uri()
        self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or files)
        if begun:
            self._client.update_run(begun, status="RUNNING")
            self.id = begun
        else:
            run = self._client.create_run(
                self._experiment(), run_name=about.name, tags={"family": about.family}
            )
            self.id = run.info.run_id
        known = self._client.get_run(self.id).data.params  # which cannot be changed
        new = {name: str(value) for name, value in about.flat().items() if name not in known}
        params = [Param(name, value) for name, value in new.items() if value]
        for first in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self.id, params=params[first : first + MOST_PARAMS])

    @translated(*FAULTS)
    def scalars(self, values: Mapping[str, float], update: int) -> None:
        """Metrics, whose steps are updates."""
        now = round(1000 * time.time())
        self._client.log_batch(self.id, [Metric(name, value, now, update) for name, value in values.items()])

    @translated(*FAULTS)
    def picture(self, name: str, picture: Picture, update: int) -> None:
        """A PNG among the run's artifacts."""
        self._client.log_image(self.id, picture, f"{name}-{update}.png")

    @translated(*FAULTS)
    def result(self, values: Mapping[str, float]) -> None:
        """Metrics again, and tags to sort runs by."""
        now = round(1000 * time.time())
        metrics = [Metric(name, value, now, 0) for name, value in values.items()]
        tags = [RunTag(name, str(value)) for name, value in values.items()]
        self._client.log_batch(self.id, metrics, tags=tags)

    @translated(*FAULTS)
    def close(self, finished: bool) -> None:
        """Says whether the run is finished."""
        self._client.set_terminated(self.id, "FINISHED" if finished else "KILLED")

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        if found is None:
            with suppress(MlflowException):  # another run of a sweep may have made it since
                return str(self._client.create_experiment(name))
            found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id)
