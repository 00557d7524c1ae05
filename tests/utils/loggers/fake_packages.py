"""Stand-ins for mlflow and wandb that remember what they were told, as the services would."""

from __future__ import annotations

from collections import namedtuple
from types import ModuleType, SimpleNamespace
from typing import Any


class FakeMlflow(ModuleType):
    """Only what the logger uses; a store outlives the client, as a database does."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.addresses: list[str] = []
        self.experiments: dict[str, Any] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.entities = SimpleNamespace(
            Metric=namedtuple("Metric", "key value timestamp step"), Param=namedtuple("Param", "key value")
        )
        self.tracking = SimpleNamespace(MlflowClient=self._client)

    def _client(self, address: str) -> FakeMlflow:
        self.addresses.append(address)
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        return self.experiments.get(name)

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        self.experiments[name] = SimpleNamespace(experiment_id=f"id of {name}", artifacts=artifact_location)
        return f"id of {name}"

    def create_run(self, experiment: str, run_name: str) -> Any:
        run_id = f"run{len(self.runs)}"
        self.runs[run_id] = {"experiment": experiment, "name": run_name, "metrics": [], "params": {}, "files": []}
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[run_id]["status"] = status

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        assert len(params) <= 100, "the service takes no more at once"
        self.runs[run_id]["metrics"] += [(metric.key, metric.value, metric.step) for metric in metrics]
        self.runs[run_id]["params"] |= {param.key: param.value for param in params}

    def log_artifact(self, run_id: str, path: str, artifact_path: str) -> None:
        self.runs[run_id]["files"].append((path, artifact_path))

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        self.runs[run_id].setdefault("tags", {})[name] = value

    def set_terminated(self, run_id: str) -> None:
        self.runs[run_id]["status"] = "FINISHED"


class FakeWandb(ModuleType):
    """Only what the logger uses."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.starts: list[dict[str, Any]] = []
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.axes: list[tuple[str, str | None]] = []
        self.finished = 0

    def init(self, **arguments: Any) -> FakeWandb:
        self.starts.append(arguments)
        return self

    def Image(self, path: str) -> str:
        return f"image {path}"

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.axes.append((name, step_metric))

    def log(self, values: dict[str, Any]) -> None:
        self.history.append(values)

    def finish(self) -> None:
        self.finished += 1
