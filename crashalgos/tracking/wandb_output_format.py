"""Sends what SB3's logger records to a Weights & Biases run."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch as th
from stable_baselines3.common.logger import Figure, HParam, Image, KVWriter, Video


class Attempt(Protocol):
    """Calls ``action``; if that raises, reports an error in ``what`` and returns ``None``."""

    def __call__(self, what: str, action: Callable[[], Any]) -> Any: ...


class WandbOutputFormat(KVWriter):
    """
    Writes each dump of SB3's logger as one row of a W&B run.

    The environment step is logged under the key ``global_step``, and never passed as W&B's ``step``. W&B drops a row whose
    ``step`` does not increase, and the last update's figures have the step of the row before them.

    :param run: the W&B run
    :param attempt: makes every call that may fail, so that no error stops training
    :param already_sent: values that an earlier ``learn`` left in the logger and has sent; the first row leaves out those that
        are still the same objects
    """

    def __init__(self, run: Any, attempt: Attempt, already_sent: Mapping[str, Any]):
        self.run = run
        self.attempt = attempt
        self.already_sent = already_sent

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """
        Sends the values as one row, if there are any.

        :param key_values: the recorded values by key
        :param key_excluded: the formats that each key is excluded from; this one is called "wandb"
        :param step: the number of environment steps
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
        """Does nothing: the run outlives the logger, and the callback finishes it."""


def to_wandb(value: Any) -> Any:
    """
    Converts a logged value to one that W&B shows. As in TensorBoard, pixels that are floats lie in [0, 1].

    :param value: a value of SB3's logger
    :return: the converted value; ``None`` if W&B has no counterpart, and for hyperparameters, which the run's config has
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
    """Converts floats in [0, 1] to 8-bit integers; 8-bit integers stay the same."""
    array = th.as_tensor(array).detach().cpu().numpy()
    return array if array.dtype == np.uint8 else (255 * np.clip(array, 0, 1)).astype(np.uint8)


def _as_batch_of_images(image: Image) -> np.ndarray:
    """Brings an image, or a batch, to the shape (n, height, width) or (n, height, width, channels)."""
    axes = image.dataformats.upper()
    pixels = np.einsum(f"{axes}->{''.join(axis for axis in 'NHWC' if axis in axes)}", _as_pixels(image.image))
    return pixels if "N" in axes else pixels[None]
