"""The model and the environments of a run."""

from pathlib import Path

from crashalgos.experiments.run.model import make_model
from tests.helpers.runs import small_config


def test_the_model_is_on_the_runs_device(tmp_path: Path) -> None:
    model = make_model(small_config("sb3-ppo", tmp_path, device="meta"))
    assert model.device.type == "meta"
