"""The look of the figures: contenders that can be told apart, panels in rows."""

import pytest

from crashalgos.experiments.comparison.contenders import Contender
from crashalgos.experiments.comparison.figure_style import grid_of_panels, line_style


def test_no_two_of_many_contenders_look_alike() -> None:
    styles = [line_style(Contender(str(i), str(i), "ppo", index=i)) for i in range(20)]
    assert len({(style["color"], str(style["linestyle"]), style["marker"]) for style in styles}) == 20
    # For print in grey, and where curves coincide: lines alone tell the first nine apart, and so do markers.
    assert len({str(style["linestyle"]) for style in styles[:9]}) == len({style["marker"] for style in styles[:9]}) == 9


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_at_most_two_panels_stand_in_a_row(n: int) -> None:
    figure, panels = grid_of_panels(n)
    spec = panels[0].get_subplotspec()
    assert spec is not None
    assert (spec.get_gridspec().ncols, spec.get_gridspec().nrows) == (min(n, 2), (n + 1) // 2)
    assert len(panels) == n and sum(axes.axison for axes in figure.axes) == n
