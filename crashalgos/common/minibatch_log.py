"""
A log of an update's minibatches that waits for the device once, at the end of the update.

``name`` is always a figure's name.
"""

from collections import defaultdict

import numpy as np
import torch as th


class MinibatchLog:
    """
    Collects the figures of minibatches as tensors.

    To convert a tensor to a number, Python must wait for the device. So the log keeps tensors, and converts many at once.
    """

    def __init__(self) -> None:
        self._figures: dict[str, list[th.Tensor]] = defaultdict(list)

    def add(self, **figures: th.Tensor) -> None:
        """
        Adds the figures of one minibatch.

        :param figures: tensors by name, without gradients
        """
        for name, figure in figures.items():
            self._figures[name].append(figure)

    def count(self, name: str) -> int:
        """
        The number of minibatches that have a figure.

        :return: the number
        """
        return len(self._figures[name])

    def last(self, name: str) -> th.Tensor:
        """
        The figure of the last minibatch.

        :return: the tensor
        """
        return self._figures[name][-1]

    def values(self, name: str) -> np.ndarray:
        """
        The figures of all minibatches as one array.

        :return: the figures in their dtype, shape (number of minibatches, …)
        """
        return th.stack(self._figures[name]).cpu().numpy()

    def take(self, name: str) -> list[th.Tensor]:
        """
        Removes the figures of all minibatches from the log, and returns them.

        :return: one tensor for each minibatch
        """
        return self._figures.pop(name)

    def mean(self, name: str) -> np.ndarray:
        """
        The mean of a figure over the minibatches.

        :return: the mean in float64
        """
        return self.values(name).astype(np.float64).mean(axis=0)
