"""The eager gradient step: its parts against PyTorch's own optimizers and norms."""

from contextlib import AbstractContextManager

import pytest
import torch as th
import torch._inductor
import torch._inductor.config
from torch import nn

from crashalgos.common.compiler import Compiler
from crashalgos.common.gradient_step import GradientStep, gradient_steps
from crashalgos.common.minibatch_log import MinibatchLog


class Line(nn.Module):
    """A model and its algorithm in one: loss = a · mean(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(th.tensor(1.0))

    def loss(self, part: tuple[th.Tensor], scale: float) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        loss = scale * self.a * part[0].mean()
        return loss, {"loss": loss}


def eager_steps(loss, coefficients, model: nn.Module, optimizer, log=None, **settings) -> AbstractContextManager[GradientStep]:
    return gradient_steps(
        loss,
        coefficients,
        policy=model,  # type: ignore[arg-type]
        parameters=list(model.parameters()),
        optimizer=optimizer,
        log=log or MinibatchLog(),
        compiler=Compiler(False),
        **settings,
    )


def steps(model: Line, log: MinibatchLog, **settings) -> AbstractContextManager[GradientStep]:
    return eager_steps(model.loss, dict(scale=2.0), model, th.optim.SGD(model.parameters(), lr=0.5), log, **settings)


def test_a_step_of_several_micro_batches_goes_down_the_sum_of_their_losses():
    model, log = Line(), MinibatchLog()
    with steps(model, log) as step:
        assert step.accumulate((th.full((4,), x),) for x in (1.0, 2.0))
    # Gradient 2 · 1 + 2 · 2 = 6, rate 0.5
    assert model.a.item() == 1 - 3
    assert log.values("grad_norm").tolist() == [6] and log.values("loss").tolist() == [2, 4]
    assert not any(figure.requires_grad for figure in log.take("loss"))


def test_the_gradient_is_scaled_down_to_the_bound():
    model, log = Line(), MinibatchLog()
    with steps(model, log, max_grad_norm=0.5) as step:
        step((th.ones(4),))
    assert log.values("grad_norm").tolist() == [2]
    assert model.a.item() == pytest.approx(1 - 0.25, abs=1e-6)


def test_should_step_decides_whether_there_is_a_step():
    model, log = Line(), MinibatchLog()
    with steps(model, log, should_step=lambda figures: float(figures["loss"]) < 3) as step:
        assert step((th.ones(4),))
        moved = model.a.item()
        assert moved == 1 - 1 and step((th.ones(4),))  # loss 0
        moved = model.a.item()
        assert not step((th.full((4,), -2.0),))  # −1 · −2 · 2 = 4
    assert model.a.item() == moved and log.count("grad_norm") == 2 and log.count("loss") == 3


def test_foreach_is_taken_back_also_after_an_error():
    model = Line()
    optimizer = th.optim.Adam(model.parameters())
    with (
        pytest.raises(ZeroDivisionError),
        eager_steps(model.loss, dict(scale=1.0), model, optimizer),
    ):
        assert optimizer.param_groups[0]["foreach"] is True
        raise ZeroDivisionError
    assert optimizer.param_groups[0]["foreach"] is None


def test_foreach_that_the_user_has_set_stays():
    model = Line()
    for settings in (dict(foreach=False), dict(fused=True)):
        optimizer = th.optim.Adam(model.parameters(), **settings)  # type: ignore[arg-type]
        before = dict(optimizer.param_groups[0])
        with eager_steps(model.loss, {}, model, optimizer):
            assert optimizer.param_groups[0] == before
        assert optimizer.param_groups[0] == before


class Bound:
    """Has the loss as a method: messages name the class of the loss."""

    def __init__(self, function) -> None:
        self.function = function

    def loss(self, part: th.Tensor) -> tuple[th.Tensor, dict[str, th.Tensor]]:
        return self.function(part)


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "SGD", "RMSprop", "RAdam", "NAdam"])
def test_an_update_gives_the_bits_of_the_optimizer(kind):
    """``foreach`` changes the last bits of RAdam and NAdam, so the step does not set it for them."""
    models = []
    for ours in (False, True):
        th.manual_seed(0)
        model = nn.Linear(20, 20)
        optimizer = getattr(th.optim, kind)(model.parameters(), lr=0.01)
        target = th.randn(7, 20)

        def loss(part: th.Tensor, model: nn.Module = model) -> tuple[th.Tensor, dict[str, th.Tensor]]:
            value = model(part).square().mean()
            return value, {"loss": value}

        with eager_steps(Bound(loss).loss, {}, model, optimizer) as step:
            for _ in range(20):
                if ours:
                    step(target)
                else:
                    for group in optimizer.param_groups:
                        group["foreach"] = False
                    optimizer.zero_grad()
                    loss(target)[0].backward()
                    optimizer.step()
        models.append(model)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert th.equal(a, b)
