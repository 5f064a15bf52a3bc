"""Which steps of a vectorised rollout belong to the sample of N trajectories: the bookkeeping, no environment, no policy."""

import numpy as np

from crashalgos.common.trajectory_buffers import NO_TRAJECTORY

#: Without `max_trajectory_steps`, a trajectory that has not ended after this many steps is taken for one that never does
ENDLESS_TRAJECTORY_STEPS = 30_000


class TrajectorySampler:
    """
    Numbers trajectories when they **start** (ties by env index); the first N started are the sample.

    Which of them finish first plays no part, so a short trajectory is as likely in the sample as the dynamics make it. An env
    with no number left idles. An env whose trajectory was cut takes no new number until its own episode ends, because a
    ``VecEnv`` cannot reset one env.

    :param n_envs: number of parallel envs; all of them are about to start an episode
    :param n_trajectories: N
    :param max_trajectory_steps: where to cut a trajectory; ``None``: nowhere
    """

    def __init__(self, n_envs: int, n_trajectories: int, max_trajectory_steps: int | None = None) -> None:
        self.n_trajectories = n_trajectories
        self.max_trajectory_steps = max_trajectory_steps
        self.numbers = np.full(n_envs, NO_TRAJECTORY)
        self.returns = np.zeros(n_trajectories)
        self.lengths = np.zeros(n_trajectories, dtype=np.int64)
        self.n_started = 0
        self.n_ended = 0
        # Of what each env plays at the moment, whether in the sample or not
        self._returns = np.zeros(n_envs)
        self._lengths = np.zeros(n_envs, dtype=np.int64)
        self.start(np.ones(n_envs, dtype=bool))

    @property
    def complete(self) -> bool:
        """Whether all N trajectories have ended."""
        return self.n_ended == self.n_trajectories

    @property
    def stuck(self) -> bool:
        """Whether numbers remain while no env collects: every env still plays on after a cut."""
        return self.n_ended == self.n_started < self.n_trajectories

    def start(self, fresh: np.ndarray) -> None:
        """
        Hand out the numbers that are left.

        :param fresh: which envs are at the first observation of an episode, shape (n_envs,)
        """
        envs = np.flatnonzero(fresh)
        self._returns[envs] = 0
        self._lengths[envs] = 0
        for env in envs[: self.n_trajectories - self.n_started]:
            self.numbers[env] = self.n_started
            self.n_started += 1

    def step(self, rewards: np.ndarray, dones: np.ndarray) -> np.ndarray:
        """
        Take note of one step of all envs.

        :param rewards: unnormalised r_t, shape (n_envs,)
        :param dones: whether the episode ended with this step, shape (n_envs,)
        :return: in which envs a trajectory of the sample ended with this step, by its end or by a cut, ascending
        :raises RuntimeError: if a trajectory exceeds ``ENDLESS_TRAJECTORY_STEPS`` and nothing says where to cut it
        """
        self._returns += rewards
        self._lengths += 1
        over = dones
        if self.max_trajectory_steps is not None:
            over = dones | (self._lengths >= self.max_trajectory_steps)
        elif self._lengths.max() >= ENDLESS_TRAJECTORY_STEPS:
            self._check_endless(dones)
        if not over.any():
            return np.flatnonzero(over)
        ended = np.flatnonzero(over & (self.numbers != NO_TRAJECTORY))
        numbers = self.numbers[ended]
        self.returns[numbers], self.lengths[numbers] = self._returns[ended], self._lengths[ended]
        self.n_ended += len(ended)
        return ended

    def release(self, ended: np.ndarray, dones: np.ndarray) -> None:
        """
        Take the numbers of ended trajectories back and start new ones where an episode is over.

        :param ended: envs as returned by :meth:`step`
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
