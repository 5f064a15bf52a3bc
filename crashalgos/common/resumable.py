"""SB3's training loop, with an iteration count that goes on in a process that resumes a run."""

from typing import TypeVar

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback

SelfResumableAlgorithm = TypeVar("SelfResumableAlgorithm", bound="ResumableAlgorithm")


class ResumableAlgorithm(OnPolicyAlgorithm):
    """
    SB3's ``OnPolicyAlgorithm`` whose log has the same rows when another process resumes the run.

    SB3 counts iterations from the beginning of each call of ``learn``. :class:`~crashalgos.resume.ResumeCallback` sets
    ``_iterations_before``, which is added to SB3's count.
    """

    #: Rollouts of the run that were made by processes before this one
    _iterations_before = 0
    _log_interval = 1

    def learn(
        self: SelfResumableAlgorithm,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfResumableAlgorithm:
        """
        Trains the model.

        :param total_timesteps: Number of env steps to train on, at least: the last rollout is finished
        :param callback: Callback(s) called at every step with the state of the algorithm
        :param log_interval: Number of rollouts between two logs
        :param tb_log_name: Name of the run for TensorBoard; by default the name of the class
        :param reset_num_timesteps: Whether to start counting steps anew
        :param progress_bar: Display a progress bar using tqdm and rich
        :return: the trained model
        """
        self._iterations_before = 0
        # SB3 is to call `dump_logs` at every iteration: that method knows which of them are logged
        self._log_interval = log_interval
        every = None if log_interval is None else 1
        return super().learn(
            total_timesteps, callback, every, tb_log_name or type(self).__name__, reset_num_timesteps, progress_bar
        )

    def dump_logs(self, iteration: int = 0) -> None:
        """
        Writes the log at every ``log_interval``-th iteration of the run.

        :param iteration: Number of rollouts of this process; 0, when called by hand: the log is always written
        """
        if iteration == 0 or (self._iterations_before + iteration) % self._log_interval == 0:
            super().dump_logs(iteration and self._iterations_before + iteration)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_iterations_before", "_log_interval"]
