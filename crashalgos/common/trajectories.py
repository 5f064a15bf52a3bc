"""Which steps of a vectorised rollout belong to the sample of N trajectories: the bookkeeping, no environment, no policy."""

import numpy as np

from crashalgos.common.buffers import NO_TRAJECTORY

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
        self.start(np.ones(n_envs, dtype=bool))

    @property
    def complete(self) -> bool:
        """Whether all N trajectories have ended."""
        return self.n_ended == self.n_trajectories

    @property
    def stuck(self) -> bool:
        """Whether numbers remain while no env collects: every env still plays on after a cut."""
        return not self.complete and bool((self.numbers == NO_TRAJECTORY).all())

    def start(self, fresh: np.ndarray) -> None:
        """
        Hand out the numbers that are left.

        :param fresh: which envs are at the first observation of an episode, shape (n_envs,)
        """
        for env in np.flatnonzero(fresh)[: self.n_trajectories - self.n_started]:
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
        collecting = self.numbers != NO_TRAJECTORY
        numbers = self.numbers[collecting]
        self.returns[numbers] += rewards[collecting]
        self.lengths[numbers] += 1
        steps = np.where(collecting, self.lengths[self.numbers], 0)
        if self.max_trajectory_steps is None:
            self._check_endless(np.where(dones, 0, steps))
            ended = collecting & dones
        else:
            ended = collecting & (dones | (steps >= self.max_trajectory_steps))
        self.n_ended += int(ended.sum())
        return np.flatnonzero(ended)

    def release(self, ended: np.ndarray, dones: np.ndarray) -> None:
        """
        Take the numbers of ended trajectories back and start new ones where an episode is over.

        :param ended: envs as returned by :meth:`step`
        :param dones: whether the episode ended with this step, shape (n_envs,)
        """
        self.numbers[ended] = NO_TRAJECTORY
        self.start(dones)

    def _check_endless(self, steps: np.ndarray) -> None:
        if steps.max() >= ENDLESS_TRAJECTORY_STEPS:
            raise RuntimeError(
                f"A trajectory (env {int(steps.argmax())}) has not ended after {ENDLESS_TRAJECTORY_STEPS} steps "
                "(ENDLESS_TRAJECTORY_STEPS): set `max_trajectory_steps`, or give the env a time limit"
            )
