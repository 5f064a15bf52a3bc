"""What becomes of SB3's log values in W&B."""

import matplotlib
import numpy as np
import pytest
import torch as th
import wandb
from stable_baselines3.common.logger import Figure, HParam, Image, Video

from crashalgos.tracking.wandb_output_format import WandbOutputFormat, to_wandb


class FakeRun:
    def __init__(self):
        self.rows = []

    def log(self, row):
        self.rows.append(row)


def attempt(what, action):
    try:
        return action()
    except Exception:
        return None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (2, 2),
        ("text", "text"),
        (th.tensor(1.5), 1.5),
        (np.array([2.5]), 2.5),
        (HParam({"a": 1}, {"b": 1.0}), None),
        (object(), None),
    ],
)
def test_scalars(value, expected):
    converted = to_wandb(value)
    assert converted == expected and type(converted) is type(expected)


def test_arrays_become_histograms():
    histogram = to_wandb(np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert isinstance(histogram, wandb.Histogram) and sum(histogram.histogram) == 4


@pytest.mark.parametrize(
    ("axes", "shape", "n"), [("HWC", (4, 6, 3), 1), ("CHW", (3, 4, 6), 1), ("HW", (4, 6), 1), ("NCHW", (2, 3, 4, 6), 2)]
)
def test_images_of_any_layout(axes, shape, n):
    pixels = np.zeros(shape, np.uint8)
    pixels[tuple(slice(None) if axis in "NC" else -1 if axis == "H" else 0 for axis in axes)] = 200  # lower left
    images = to_wandb(Image(pixels, axes))
    assert len(images) == n
    for image in images:
        assert image.image.size == (6, 4)
        levels = np.asarray(image.image.convert("L"))
        assert levels[3, 0] == 200 and levels.sum() == 200


def test_floats_are_in_zero_to_one():
    [image] = to_wandb(Image(th.full((4, 6), 0.5), "HW"))
    assert (np.asarray(image.image.convert("L")) == 127).all()


def test_figure():
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure()
    plt.plot([1, 2])
    assert isinstance(to_wandb(Figure(figure, close=True)), wandb.Image)
    assert not plt.fignum_exists(figure.number)


def test_video():
    assert isinstance(to_wandb(Video(th.zeros(1, 3, 3, 16, 16), fps=10)), wandb.Video)


def test_row():
    run = FakeRun()
    stale, fresh = 1.5, float("1.5")
    output_format = WandbOutputFormat(run, attempt, {"train/loss": stale, "train/kl": stale})
    values = {"train/loss": stale, "train/kl": fresh, "a": 1, "hidden": 2}
    output_format.write(values, {"a": ("tensorboard",), "hidden": ("stdout", "wandb"), "train/loss": None}, 5)
    output_format.write({"train/loss": stale}, {}, 6)
    output_format.write({"hidden": 2}, {"hidden": ("wandb",)}, 7)
    # What was sent before is left out of the first row only; a row without values is not sent
    assert run.rows == [{"train/kl": 1.5, "a": 1, "global_step": 5}, {"train/loss": 1.5, "global_step": 6}]
