"""Figures of every minibatch, read from the device once at the end instead of once a minibatch."""

from collections import defaultdict

import numpy as np
import torch as th


class MinibatchLog:
    """Collects tensors under names, one of each name a minibatch."""

    def __init__(self) -> None:
        self._figures: dict[str, list[th.Tensor]] = defaultdict(list)

    def add(self, **figures: th.Tensor) -> None:
        """
        :param figures: tensors of one minibatch, without gradients
        """
        for name, figure in figures.items():
            self._figures[name].append(figure)

    def count(self, name: str) -> int:
        """
        :param name: as given to :meth:`add`
        :return: the number of minibatches that have such a figure
        """
        return len(self._figures[name])

    def last(self, name: str) -> th.Tensor:
        """
        :param name: as given to :meth:`add`
        :return: the figure of the last minibatch
        """
        return self._figures[name][-1]

    def values(self, name: str) -> np.ndarray:
        """
        :param name: as given to :meth:`add`
        :return: the figures in their dtype, shape (number of minibatches, …)
        """
        return th.stack(self._figures[name]).cpu().numpy()

    def take(self, name: str) -> list[th.Tensor]:
        """
        :param name: as given to :meth:`add`
        :return: the figures, which are forgotten
        """
        return self._figures.pop(name)

    def mean(self, name: str) -> np.ndarray:
        """
        :param name: as given to :meth:`add`
        :return: the mean over the minibatches, in float64
        """
        return self.values(name).astype(np.float64).mean(axis=0)
