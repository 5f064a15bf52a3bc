"""What is hard to undercut: the env alone, and the arithmetic of the update at the rate that a matrix product reaches."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

SECONDS_OF_PRODUCTS = 0.1


@dataclass(frozen=True)
class Product:
    """
    A product of matrices (m × k) · (k × n): what a layer does to a batch.

    :param m: places in the batch where the layer is applied
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
        """Multiplications and additions."""
        return 2 * self.m * self.k * self.n

    @property
    def flops_with_backward(self) -> int:
        """The same with the backward pass: a product of that size for the gradient of the weights, one for the inputs'."""
        return self.flops * (3 if self.hidden else 2)


def products(policy: Any, observations: Any, actions: th.Tensor) -> list[Product]:
    """
    :param policy: an actor-critic policy of SB3
    :param observations: a batch
    :param actions: a batch
    :return: the product of every linear and convolutional layer that evaluates these actions
    """
    found: list[Product] = []

    def note(layer: nn.Module, inputs: tuple[th.Tensor], output: th.Tensor) -> None:
        hidden = inputs[0].requires_grad
        if isinstance(layer, nn.Linear):
            found.append(Product(output.numel() // layer.out_features, layer.in_features, layer.out_features, hidden))
        elif isinstance(layer, nn.Conv2d):
            patch = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
            found.append(Product(output.numel() // layer.out_channels, patch, layer.out_channels, hidden))

    hooks = [layer.register_forward_hook(note) for layer in policy.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    try:
        policy.evaluate_actions(observations, actions)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def minibatch_products(model: Any) -> list[Product]:
    """
    :param model: SB3's PPO
    :return: the products of one forward pass of a minibatch
    """
    batch_size = model.batch_size
    observations, _ = model.policy.obs_to_tensor(np.stack([model.observation_space.sample() for _ in range(batch_size)]))
    actions = th.as_tensor(np.stack([model.action_space.sample() for _ in range(batch_size)]), device=model.device)
    return products(model.policy, observations, actions)


def update_flops(forward: list[Product], n_samples: int, batch_size: int, n_epochs: int) -> float:
    """
    :param forward: the products of one forward pass of a minibatch
    :param n_samples: steps of a rollout
    :param batch_size: steps of a minibatch
    :param n_epochs: how often an update goes over the rollout
    :return: forward and backward passes of one update
    """
    return sum(product.flops_with_backward for product in forward) * n_samples / batch_size * n_epochs


def largest(found: list[Product]) -> Product:
    """
    :param found: products
    :return: the largest one of a hidden layer
    """
    return max((product for product in found if product.hidden), key=lambda product: product.flops)


def matrix_rate(product: Product, device: th.device) -> float:
    """
    :param product: its sizes
    :param device: where
    :return: flops per second of such products, at best
    """
    left, right = th.rand(product.m, product.k, device=device), th.rand(product.k, product.n, device=device)
    result = left @ right
    best = float("inf")
    end = time.perf_counter() + SECONDS_OF_PRODUCTS
    while time.perf_counter() < end:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(10):
            th.mm(left, right, out=result)
        synchronize(device)
        best = min(best, (time.perf_counter() - start) / 10)
    return product.flops / best


def seconds_of_random_steps(env: VecEnv, n_steps: int) -> float:
    """
    :param env: stepped with random actions, which are drawn before the clock starts
    :param n_steps: how many steps of every env
    :return: how long that took
    """
    actions = [np.stack([env.action_space.sample() for _ in range(env.num_envs)]) for _ in range(n_steps)]
    start = time.perf_counter()
    env.reset()
    for action in actions:
        env.step(action)
    return time.perf_counter() - start


def synchronize(device: th.device) -> None:
    """
    :param device: if it is a GPU, wait for it
    """
    if device.type == "cuda":
        th.cuda.synchronize(device)
