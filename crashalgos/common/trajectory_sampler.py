"""The choice of N trajectories from the steps of parallel envs. It knows neither the envs nor the policy."""

import numpy as np

from crashalgos.common.trajectory_buffers import NO_TRAJECTORY

#: Without `max_trajectory_steps`, a trajectory of this many steps raises an error: its env probably has no end
ENDLESS_TRAJECTORY_STEPS = 30_000


class TrajectorySampler:
    """
    Chooses the sample: the first N trajectories that **start**.

    A trajectory gets its number when it starts. If several start at the same step, the env with the lowest index comes first.
    The first N that *finish* would be a biased sample: it would prefer short trajectories.

    An env *collects* while its trajectory has a number. Otherwise it *idles*: its steps are not part of the sample. An env
    idles in two cases:

    - All N numbers are in use or done.
    - Its trajectory was cut by ``max_trajectory_steps``. A ``VecEnv`` cannot reset a single env. So this env gets no new
      number before its episode ends.

    :param n_envs: number of parallel envs, each at the start of an episode
    :param n_trajectories: N
    :param max_trajectory_steps: the number of steps after which a trajectory is cut; ``None``: never
    """

    def __init__(self, n_envs: int, n_trajectories: int, max_trajectory_steps: int | None = None) -> None:
        self.n_trajectories = n_trajectories
        self.max_trajectory_steps = max_trajectory_steps
        self.numbers = np.full(n_envs, NO_TRAJECTORY)
        self.returns = np.zeros(n_trajectories)
        self.lengths = np.zeros(n_trajectories, dtype=np.int64)
        self.n_started = 0
        self.n_ended = 0
        # Of the episode in progress in each env, also if the env idles
        self._returns = np.zeros(n_envs)
        self._lengths = np.zeros(n_envs, dtype=np.int64)
        self.start(np.ones(n_envs, dtype=bool))

    @property
    def complete(self) -> bool:
        """Whether all N trajectories have ended."""
        return self.n_ended == self.n_trajectories

    @property
    def stuck(self) -> bool:
        """Whether numbers are left but no env collects: the trajectories of all envs were cut, and their episodes go on."""
        return self.n_ended == self.n_started < self.n_trajectories

    def start(self, fresh: np.ndarray) -> None:
        """
        Starts trajectories in the envs that begin an episode, as long as numbers are left.

        :param fresh: whether the env is at the first observation of an episode, shape (n_envs,)
        """
        envs = np.flatnonzero(fresh)
        self._returns[envs] = 0
        self._lengths[envs] = 0
        for env in envs[: self.n_trajectories - self.n_started]:
            self.numbers[env] = self.n_started
            self.n_started += 1

    def step(self, rewards: np.ndarray, dones: np.ndarray) -> np.ndarray:
        """
        Counts one step of all envs, and finds the trajectories that it ends.

        :param rewards: r_t without normalization, shape (n_envs,)
        :param dones: whether the episode ended with this step, shape (n_envs,)
        :return: indices of the envs in which a trajectory of the sample ended or was cut, ascending
        :raises RuntimeError: if a trajectory has ``ENDLESS_TRAJECTORY_STEPS`` steps and ``max_trajectory_steps`` is ``None``
        """
        self._returns += rewards
        self._lengths += 1
        ends = dones
        if self.max_trajectory_steps is not None:
            ends = dones | (self._lengths >= self.max_trajectory_steps)
        elif self._lengths.max() >= ENDLESS_TRAJECTORY_STEPS:
            self._check_endless(dones)
        if not ends.any():
            return np.flatnonzero(ends)
        ended = np.flatnonzero(ends & (self.numbers != NO_TRAJECTORY))
        numbers = self.numbers[ended]
        self.returns[numbers], self.lengths[numbers] = self._returns[ended], self._lengths[ended]
        self.n_ended += len(ended)
        return ended

    def release(self, ended: np.ndarray, dones: np.ndarray) -> None:
        """
        Releases the envs whose trajectory has ended, and starts trajectories in the envs whose episode has ended.

        :param ended: the result of :meth:`step`
        :param dones: whether the episode ended with this step, shape (n_envs,)
        """
        if len(ended) or dones.any():
            self.numbers[ended] = NO_TRAJECTORY
            self.start(dones)

    def _check_endless(self, dones: np.ndarray) -> None:
        steps = np.where(dones | (self.numbers == NO_TRAJECTORY), 0, self._lengths)
        if steps.max() >= ENDLESS_TRAJECTORY_STEPS:
            raise RuntimeError(
                f"A trajectory (env {int(steps.argmax())}) has not ended after {ENDLESS_TRAJECTORY_STEPS} steps "
                "(ENDLESS_TRAJECTORY_STEPS): set `max_trajectory_steps`, or give the env a time limit"
            )
