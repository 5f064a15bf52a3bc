"""What the algorithms change in the distributions of SB3's policies: no validation, and no memory of the last one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3.common.policies import BasePolicy
from torch.distributions import Distribution


@contextmanager
def without_validation() -> Iterator[None]:
    """
    Switches the validation of all distributions off during the block, in the whole process.

    Several threads can be in such blocks. The last one to leave restores the setting that the first one found. Without this
    block, ``torch.compile`` would switch validation off for good.
    """
    with _validation.lock:
        if _validation.n_blocks == 0:
            _validation.original_setting = Distribution._validate_args
        _validation.n_blocks += 1
        Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        with _validation.lock:
            _validation.n_blocks -= 1
            if _validation.n_blocks == 0:
                Distribution.set_default_validate_args(_validation.original_setting)


class _Validation:
    """The state of :func:`without_validation`, shared by all threads."""

    lock = threading.Lock()
    #: Number of blocks in progress
    n_blocks = 0
    original_setting = True


_validation = _Validation()


def forget_distribution(policy: BasePolicy) -> None:
    """
    Drops the policy's last distribution, which SB3's policies keep, and with it tensors of a compiled graph.

    Call it at the end of every compiled function that runs the policy.

    :param policy: the policy
    """
    distribution: Any = policy.action_dist
    for name, empty in (("distribution", None), ("distributions", [])):
        if hasattr(distribution, name):
            setattr(distribution, name, empty)
