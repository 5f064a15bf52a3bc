"""The log of a run that can be resumed."""

from tests.helpers.resuming import MODELS


def test_a_log_can_be_dumped_by_hand() -> None:
    written: list[int] = []
    model = MODELS["ppo"]().learn(512, log_interval=None)
    model.dump_logs = lambda *args: [written.append(1), type(model).dump_logs(model, *args)]  # type: ignore[method-assign]
    model.dump_logs()  # type: ignore[call-arg]
    assert written == [1]
