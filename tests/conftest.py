"""One torch thread: the networks here are too small to gain from more, and two busy cores would only get in each other's way."""

import torch as th

th.set_num_threads(1)
