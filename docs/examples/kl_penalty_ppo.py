"""PPO whose loss has one term more: a penalty on the change of the policy."""

from typing import Any

import torch as th

from crashalgos import PPO


class KLPenaltyPPO(PPO):
    """
    PPO with the loss + β · KL(π_θOLD ‖ π_θ) (https://arxiv.org/abs/1707.06347, section 4, with a fixed β).

    :param args: Arguments of PPO
    :param kl_coef: β, coefficient of the penalty
    :param kwargs: Arguments of PPO
    """

    def __init__(self, *args: Any, kl_coef: float = 0.0, **kwargs: Any) -> None:
        self.kl_coef = kl_coef
        super().__init__(*args, **kwargs)

    def _coefficients(self) -> dict[str, Any]:
        return super()._coefficients() | {"kl_coef": self.kl_coef}

    def _loss(self, batch: Any, *, kl_coef: float = 0.0, **coefficients: Any) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        loss, figures = super()._loss(batch, **coefficients)
        loss = loss + kl_coef * figures["kl_k3"]
        return loss, figures | {"loss": loss}
