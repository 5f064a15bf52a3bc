"""A floor for PPO's time: the env alone, and the matrix products of the update at the best rate of one product."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

_SECONDS_OF_PRODUCTS = 0.1


@dataclass(frozen=True)
class MatrixProduct:
    """
    A matrix product (m × k) · (k × n), which is what a layer does with a batch.

    :param m: how many times the layer is applied in the batch
    :param k: inputs of the layer
    :param n: outputs of the layer
    :param hidden: whether the layer's inputs are another layer's outputs, and not observations
    """

    m: int
    k: int
    n: int
    hidden: bool

    @property
    def flops(self) -> int:
        """Multiplications and additions of the forward pass."""
        return 2 * self.m * self.k * self.n

    @property
    def flops_with_backward(self) -> int:
        """Multiplications and additions of both passes: a product more for the weights' gradient, and one for the inputs'."""
        return self.flops * (3 if self.hidden else 2)


def forward_products(policy: Any, observations: Any, actions: th.Tensor) -> list[MatrixProduct]:
    """
    Lists the matrix products of one forward pass.

    :param policy: an actor-critic policy of SB3
    :param observations: a batch of observations
    :param actions: a batch of actions
    :return: one product for each linear and convolutional layer that ``evaluate_actions`` applies
    """
    products: list[MatrixProduct] = []

    def record(layer: nn.Module, inputs: tuple[th.Tensor], output: th.Tensor) -> None:
        hidden = inputs[0].requires_grad
        if isinstance(layer, nn.Linear):
            products.append(MatrixProduct(output.numel() // layer.out_features, layer.in_features, layer.out_features, hidden))
        elif isinstance(layer, nn.Conv2d):
            patch = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
            products.append(MatrixProduct(output.numel() // layer.out_channels, patch, layer.out_channels, hidden))

    hooks = [layer.register_forward_hook(record) for layer in policy.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    try:
        policy.evaluate_actions(observations, actions)
    finally:
        for hook in hooks:
            hook.remove()
    return products


def minibatch_products(model: Any) -> list[MatrixProduct]:
    """
    Lists the matrix products of a minibatch's forward pass.

    :param model: SB3's PPO
    :return: one product for each layer
    """
    batch_size = model.batch_size
    observations, _ = model.policy.obs_to_tensor(np.stack([model.observation_space.sample() for _ in range(batch_size)]))
    actions = th.as_tensor(np.stack([model.action_space.sample() for _ in range(batch_size)]), device=model.device)
    return forward_products(model.policy, observations, actions)


def update_flops(minibatch: list[MatrixProduct], n_samples: int, batch_size: int, n_epochs: int) -> float:
    """
    Counts the floating-point operations of one update.

    :param minibatch: the products of a minibatch's forward pass
    :param n_samples: steps of a rollout
    :param batch_size: steps of a minibatch
    :param n_epochs: how many epochs an update has
    :return: the operations of all forward and backward passes
    """
    return sum(product.flops_with_backward for product in minibatch) * n_samples / batch_size * n_epochs


def largest_hidden(products: list[MatrixProduct]) -> MatrixProduct:
    """
    Finds the largest product of a hidden layer.

    :param products: the products of a forward pass
    :return: the one with the most operations
    """
    return max((product for product in products if product.hidden), key=lambda product: product.flops)


def matrix_rate(product: MatrixProduct, device: th.device) -> float:
    """
    Measures how fast PyTorch calculates a product of this size.

    :param product: the product
    :param device: the device that calculates it
    :return: floating-point operations per second, the best of several trials
    """
    left, right = th.rand(product.m, product.k, device=device), th.rand(product.k, product.n, device=device)
    result = left @ right
    best = float("inf")
    end = time.perf_counter() + _SECONDS_OF_PRODUCTS
    while time.perf_counter() < end:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(10):
            th.mm(left, right, out=result)
        synchronize(device)
        best = min(best, (time.perf_counter() - start) / 10)
    return product.flops / best


def time_random_steps(env: VecEnv, n_steps: int) -> float:
    """
    Times steps with random actions, which are drawn before the clock starts.

    :param env: the vectorized env
    :param n_steps: how many steps each env makes
    :return: seconds
    """
    actions = [np.stack([env.action_space.sample() for _ in range(env.num_envs)]) for _ in range(n_steps)]
    start = time.perf_counter()
    env.reset()
    for action in actions:
        env.step(action)
    return time.perf_counter() - start


def synchronize(device: th.device) -> None:
    """
    Waits until a GPU has finished its work.

    :param device: PyTorch's device; nothing happens on a CPU
    """
    if device.type == "cuda":
        th.cuda.synchronize(device)
