"""The figures of every minibatch, read at the end of an update."""

import numpy as np
import torch as th

from crashalgos.common.minibatch_log import MinibatchLog


def test_figures_are_kept_in_the_order_of_the_minibatches():
    log = MinibatchLog()
    for loss in (1.0, 2.0, 6.0):
        log.add(loss=th.tensor(loss), cases=th.tensor([loss, 0.0]))
    log.add(grad_norm=th.tensor(4.0))
    assert log.count("loss") == 3 and log.count("grad_norm") == 1 and log.count("unknown") == 0
    assert log.last("loss") == 6
    assert log.values("loss").tolist() == [1, 2, 6] and log.values("loss").dtype == np.float32
    assert log.values("cases").tolist() == [[1, 0], [2, 0], [6, 0]]
    assert log.mean("loss") == 3 and log.mean("cases").tolist() == [3, 0]
    assert log.mean("cases").dtype == np.float64


def test_figures_that_are_taken_are_forgotten():
    log = MinibatchLog()
    log.add(loss=th.tensor(1.0))
    log.add(loss=th.tensor(2.0))
    assert [figure.item() for figure in log.take("loss")] == [1, 2]
    assert log.count("loss") == 0
