"""What SB3's logger records, as rows of a Weights & Biases run."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch as th
from stable_baselines3.common.logger import Figure, HParam, Image, KVWriter, Video


class Attempt(Protocol):
    """Call ``action``; an error of it is reported by the name ``what`` and gives ``None``."""

    def __call__(self, what: str, action: Callable[[], Any]) -> Any: ...


class WandbOutputFormat(KVWriter):
    """
    Writes each dump of SB3's logger as one row of a W&B run.

    The environment step is logged as the key ``global_step`` and never passed as W&B's ``step``: W&B drops rows whose
    ``step`` goes backwards, or repeats, and the last update's figures share their step with the row before them.

    :param run: the W&B run
    :param attempt: guards every call that may fail, so that no error reaches the training
    :param already_sent: values that an earlier training left pending in the logger and that W&B already has;
        the first row leaves out those that are still the same objects
    """

    def __init__(self, run: Any, attempt: Attempt, already_sent: Mapping[str, Any]):
        self.run = run
        self.attempt = attempt
        self.already_sent = already_sent

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """
        Send the values as one row; nothing is sent when no value is left.

        :param key_values: what the logger recorded
        :param key_excluded: for each key, the formats it is excluded from; ours is called "wandb"
        :param step: number of environment steps
        """
        row = {}
        for key, value in key_values.items():
            if "wandb" in (key_excluded.get(key) or ()) or (key in self.already_sent and self.already_sent[key] is value):
                continue
            converted = self.attempt(f"converting {key!r}", lambda value=value: to_wandb(value))  # type: ignore[misc]
            if converted is not None:
                row[key] = converted
        self.already_sent = {}
        if row:
            self.attempt("logging", lambda: self.run.log({**row, "global_step": int(step)}))

    def close(self) -> None:
        """The run outlives the logger: the callback finishes it."""


def to_wandb(value: Any) -> Any:
    """
    A logged value in a form that W&B shows, with TensorBoard's conventions for pixels (floats are in [0, 1]).

    :param value: a value of SB3's logger
    :return: the converted value, ``None`` for what has no counterpart (hyperparameters are in the run's config)
    """
    import wandb

    if isinstance(value, Image) and not isinstance(value.image, str):
        return [wandb.Image(pixels) for pixels in _as_batch_of_images(value)]
    if isinstance(value, Figure):
        image = wandb.Image(value.figure)
        if value.close:
            import matplotlib.pyplot as plt

            plt.close(value.figure)
        return image
    if isinstance(value, Video):
        return wandb.Video(_as_pixels(value.frames), fps=round(value.fps), format="mp4")
    if isinstance(value, (th.Tensor, np.ndarray)):
        array = value.detach().cpu().numpy() if isinstance(value, th.Tensor) else value
        return array.item() if array.size == 1 else wandb.Histogram(array.ravel().tolist())
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, (bool, int, float, str)) and not isinstance(value, HParam) else None


def _as_pixels(array: Any) -> np.ndarray:
    """
    :param array: 8-bit integers, or floats in [0, 1]
    :return: the same as 8-bit integers
    """
    array = th.as_tensor(array).detach().cpu().numpy()
    return array if array.dtype == np.uint8 else (255 * np.clip(array, 0, 1)).astype(np.uint8)


def _as_batch_of_images(image: Image) -> np.ndarray:
    """
    :param image: an image, or a batch of images, with its axes in any order
    :return: the pixels, of shape (n, height, width) or (n, height, width, channels)
    """
    axes = image.dataformats.upper()
    pixels = np.einsum(f"{axes}->{''.join(axis for axis in 'NHWC' if axis in axes)}", _as_pixels(image.image))
    return pixels if "N" in axes else pixels[None]
