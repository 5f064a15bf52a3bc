"""One torch thread: the networks here are too small to gain from more."""

import torch as th

th.set_num_threads(1)
