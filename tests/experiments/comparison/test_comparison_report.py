import html
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from crashalgos.experiments.comparison import figures, report
from crashalgos.experiments.comparison.results import Contender, Results, load
from crashalgos.experiments.comparison.statistics import Pair
from tests.helpers.comparison_folders import four_seeds, write_folder

ENV, OTHER = "CartPole-v1", "Acrobot-v1"
SECTIONS = (
    "Verdicts",
    "Scores",
    "Aggregate scores",
    "Figures",
    "What the numbers mean",
    "Not applicable and failed runs",
    "References",
    "To reproduce",
    "Settings",
    "Versions",
)


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading."""
    section = text.split(f"\n{heading}\n")[1].split("\n#")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def two_envs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three contenders in two environments, b like a; c has failed in one environment and has no place in the other."""
    returns = {
        (name, env, seed): (low, low + 0.4 * span + seed, low + 0.6 * span + 2 * seed)
        for name in ("a", "b")
        for env, low, span in ((ENV, 22.2, 477.8), (OTHER, -499.1, 399.1))
        for seed in range(6)
    }
    returns |= {("c", ENV, seed): (22.2, 30.0, 40.0 + seed) for seed in range(1, 6)}
    other_rows = [
        ("c", ENV, 0, "failed", "", "", "c-0", "RuntimeError: <script>alert(1)</script> | `x` & [y](http://example.org)"),
        ("c", OTHER, "", "not applicable", "", "", "", "c has no place there"),
    ]
    labels = {"a": "A & B <b>", "b": "_b_ $x^2$ | *c*", "c": "c"}
    folder = tmp_path_factory.mktemp("comparison")
    report.write(write_folder(folder, returns, other_rows=other_rows, labels=labels, seeds=6))
    return folder


@pytest.fixture(scope="module")
def one_env(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``four_seeds``, where an earlier report has left a figure that this one does not have."""
    folder = four_seeds(tmp_path_factory.mktemp("comparison"))
    (folder / "figures").mkdir()
    (folder / "figures" / "sample_efficiency.png").write_bytes(b"old")
    report.write(folder)
    return folder


def test_scores_worked_out_on_paper(one_env: Path) -> None:
    text = (one_env / "report.md").read_text(encoding="utf-8")
    tables = rows(text, "### Scores in CartPole-v1")
    # a: (100 + 200 + 300 + 500)/4 = 275, without the ends (200 + 300)/2 = 250; steps/s: 200/2, 200/2, 200/4, 200/4
    a, b = tables[2:4]
    assert [*a[:5], *a[6:]] == ["A", "4", "0–3", "275.0", "250.0", "265.0", "100.0 200.0 300.0 500.0"]
    # b: (500 + 500 + 500 + 460)/4 = 490, without the ends 500
    assert [*b[:5], *b[6:]] == ["B", "4", "0–3", "490.0", "500.0", "480.0", "500.0 500.0 500.0 460.0"]
    # a reaches 500 once, in four runs; b at steps 100, 100, 200, and never, so after 1, 1, 2 seconds, and never
    assert tables[6:] == [["A", "75", "3.0", "1 of 4", "never", "never"], ["B", "100", "2.0", "3 of 4", "150", "1.5"]]
    assert "first reached a mean return of 500.0" in text
    low, high = map(float, a[5].split(" to "))
    assert 100 <= low < 250 < high <= 500


def test_the_sections_stand_in_their_order(two_envs: Path, one_env: Path) -> None:
    for folder in (two_envs, one_env):
        headings = re.findall("^## (.*)$", (folder / "report.md").read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == list(SECTIONS)


def test_a_normalised_aggregate_over_environments(two_envs: Path) -> None:
    text = (two_envs / "report.md").read_text(encoding="utf-8")
    table = rows(text, "## Aggregate scores")
    # 0.6 + 2 seed/477.8 and 0.6 + 2 seed/399.1, the mean seed is 2.5: 0.6 + 2.5/477.8 + 2.5/399.1 = 0.61150
    assert [row[0] for row in table[2:]] == [r"A \& B \<b\>", r"\_b\_ \$x^2\$ \| \*c\*"]
    assert table[2][1] == "12" and [cell.split(" ")[0] for cell in table[2][2:]] == ["0.611", "0.611", "0.611", "0.389"]
    assert "1: high reference) in 2 environments, with 95 % intervals. " in text
    assert "Left out, without a finished run in one environment or more: c." in text


def test_a_normalised_aggregate_in_one_environment(one_env: Path) -> None:
    text = (one_env / "report.md").read_text(encoding="utf-8")
    a, b = ([cell.split(" ")[0] for cell in row] for row in rows(text, "## Aggregate scores")[2:])
    # (275 − 22.2)/477.8 = 0.5291, without the ends (250 − 22.2)/477.8 = 0.4768; 1 − 0.5291 = 0.4709
    assert a == ["A", "4", "0.477", "0.529", "0.529", "0.471"]
    # (490 − 22.2)/477.8 = 0.9791, without the ends 1
    assert b == ["B", "4", "1.000", "0.979", "0.979", "0.021"]
    assert "1: high reference) in one environment, with 95 % intervals. " in text and "Left out" not in text


def test_who_is_left_out_of_the_aggregate_in_one_environment(tmp_path: Path) -> None:
    other_rows = [("b", ENV, 0, "failed", "", "", "b-0", "ValueError: no")]
    results = load(write_folder(tmp_path, {("a", ENV, 0): (20.0, 30.0, 40.0)}, other_rows=other_rows))
    assert report.aggregate_table(results)[-1] == "Left out, without a finished run: B."


def test_identical_contenders_are_reported_as_identical(two_envs: Path) -> None:
    lines = report.verdicts(load(two_envs))
    identical = [line for line in lines if "identical" in line]
    assert len(lines) == 3 + 1 and len(identical) == 2
    assert identical[0] == (
        "CartPole-v1, A & B <b> – _b_ $x^2$ | *c*: A & B <b> and _b_ $x^2$ | *c* are identical: "
        "every evaluation on all 6 seeds is the same."
    )


def test_equal_scores_alone_are_not_identical(tmp_path: Path) -> None:
    returns = {("a", ENV, seed): (20.0, 30.0, 40.0 + seed) for seed in range(6)}
    returns |= {("b", ENV, seed): (20.0, 31.0, 40.0 + seed) for seed in range(6)}
    (line,) = report.verdicts(load(write_folder(tmp_path, returns)))
    assert "identical" not in line and "No difference between A and B: 0 (95 % interval 0 to 0)" in line


def test_verdicts_say_who_is_better(tmp_path: Path) -> None:
    returns = {("a", ENV, seed): (20.0, 30.0, 40.0 + seed) for seed in range(8)}
    returns |= {("b", ENV, seed): (20.0, 30.0, 140.0 + seed) for seed in range(8)}
    (line,) = report.verdicts(load(write_folder(tmp_path, returns)))
    # All eight signs equal: p = 2/2^8
    assert line.startswith("CartPole-v1, A – B: B is better than A: by 100 (95 % interval 100 to 100), p = 0.00781")
    assert "8 paired seeds" in line


def test_contenders_of_other_seeds_are_compared_unpaired(tmp_path: Path) -> None:
    returns = {("a", ENV, seed): (20.0, 30.0, 40.0 + seed) for seed in range(5)}
    returns |= {("b", ENV, seed): (20.0, 30.0, 140.0 + seed) for seed in range(10, 15)}
    results = load(write_folder(tmp_path, returns))
    (line,) = report.verdicts(results)
    # One of the 10!/(5! 5!) = 252 ways to share the runs out, at either end: p = 2/252
    assert "B is better than A: by 110" in line and "p = 0.00794" in line and "5 and 5 seeds, not paired" in line
    assert [report.score_row(results, ENV, contender)[2] for contender in results.contenders] == ["0–4", "10–14"]


def test_three_seeds_are_too_few(tmp_path: Path) -> None:
    returns = {(name, ENV, seed): (20.0, 30.0, final + seed) for name, final in (("a", 40), ("b", 90)) for seed in range(3)}
    (line,) = report.verdicts(load(write_folder(tmp_path, returns)))
    assert line.startswith("CartPole-v1, A – B: Too few seeds to conclude: with 3, the smallest p possible is 0.25")


def test_verdicts_say_which_runs_are_left_out(tmp_path: Path) -> None:
    # Of ten runs six of a have finished, two failed, one is incomplete, one missing; of b one has failed; all of c's are there
    numbers = {"a": range(6), "b": range(9), "c": range(10)}
    returns = {(name, ENV, seed): (20.0, 30.0, 40.0 + seed) for name, seeds in numbers.items() for seed in seeds}
    other_rows = [
        *(("a", ENV, seed, "failed", "", "", f"a-{seed}", "ValueError: no") for seed in (6, 7)),
        ("a", ENV, 8, "finished", 200, 2.0, "a-8", ""),
        ("b", ENV, 9, "failed", "", "", "b-9", "ValueError: no"),
        ("d", ENV, "", "not applicable", "", "", "", "d has no place there"),
    ]
    results = load(write_folder(tmp_path, returns, other_rows=other_rows, labels={"a": "A*"}))
    of_a, of_b = "4 of {}'s 10 runs have not finished and are left out.", " 1 of B's 10 runs has not finished and is left out."
    a_and_b, a_and_c, b_and_c = report.verdicts(results)
    assert a_and_b.endswith(f"is the same. {of_a.format('A*')}{of_b}")
    assert a_and_c.endswith(f"is the same. {of_a.format('A*')}")
    assert b_and_c.endswith(f"is the same.{of_b}")
    cells = [row[1] for row in rows("\n".join(["", *report.verdict_tables(results)]), "### Verdicts in CartPole-v1")[2:]]
    assert cells[0].endswith("is the same. " + of_a.format(r"A\*") + of_b)
    assert cells[2].endswith(f"is the same.{of_b}")


def test_verdicts_say_nothing_about_runs_where_all_are_there(two_envs: Path) -> None:
    left_out = [line for line in report.verdicts(load(two_envs)) if "left out" in line]
    # c, of which one run has failed, against a and b; in the other environment c has no runs to compare
    assert len(left_out) == 2 and all(line.startswith(ENV) for line in left_out)
    assert all(line.endswith(". 1 of c's 6 runs has not finished and is left out.") for line in left_out)


def test_failed_and_not_applicable_runs_are_listed(two_envs: Path) -> None:
    text = (two_envs / "report.md").read_text(encoding="utf-8")
    assert "| c | CartPole-v1 | 0 | failed | RuntimeError: \\<script\\>alert(1)\\</script\\> \\| \\`x\\` \\& " in text
    assert "| c | Acrobot-v1 | – | not applicable | c has no place there |" in text
    assert "Not compared, without a finished run: c." in text.split("### Verdicts in Acrobot-v1")[1].split("## Scores")[0]
    # Of six seeds five finished.
    assert "| c | 5 of 6 | 1–5 | 43.0 | 43.0 |" in text


def test_one_run_alone(tmp_path: Path) -> None:
    paths = report.write(write_folder(tmp_path, {("a", ENV, 0): (20.0, 30.0, 40.0)}))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Only one contender has a finished run here." in text
    assert rows(text, "### Scores in CartPole-v1")[2] == ["A", "1", "0", "40.0", "40.0", "–", "30.0", "40.0"]
    assert "None: 1 of 1 runs finished." in text and "No run reached the threshold in CartPole-v1 (500.0)." in text
    names = ["learning_curves", "performance_profiles", "wall_clock"]
    assert [path.stem for path in paths] == ["report", "report", *names]


def test_an_environment_without_a_reference_of_its_own(tmp_path: Path) -> None:
    returns = {("a", "nowhere:Small-v0", seed): (0.1, 0.2, 0.3 + seed / 10) for seed in range(2)}
    text = report.markdown(load(write_folder(tmp_path, returns)), [])
    assert "| nowhere:Small-v0 | 0.100 | 0.400 | low: mean return at step 0; high: best mean return seen |" in text
    assert "| A | 2 | 0–1 | 0.350 | 0.350 | 0.300 to 0.400 | -9.650 | 0.300 0.400 |" in text


def test_the_same_files_give_the_same_bytes(two_envs: Path) -> None:
    before = content(two_envs)
    paths = report.write(two_envs)
    assert content(two_envs) == before
    assert {str(path.relative_to(two_envs)) for path in paths} == {
        name for name in before if not name.endswith(("csv", "json"))
    }


def test_pairs_are_compared_once_for_report_and_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def counted(results: Results, env: str, a: Contender, b: Contender) -> Pair:
        compared.append((env, a.name, b.name))
        return compare(results, env, a, b)

    compare = report.compare
    monkeypatch.setattr(report, "compare", counted)
    results = load(four_seeds(tmp_path))
    paths = report.write_report(results)
    before = content(tmp_path)
    lines = report.verdicts(results)
    assert compared == [(ENV, "a", "b")] and len(lines) == 1
    # Read anew, compared anew, and the same report
    assert report.write(tmp_path) == paths and content(tmp_path) == before
    assert len(compared) == 2


def test_the_reports_place_is_not_in_it(two_envs: Path) -> None:
    for name in ("report.md", "report.html"):
        assert str(two_envs) not in (two_envs / name).read_text(encoding="utf-8")


def test_a_figure_of_an_earlier_report_is_removed(one_env: Path) -> None:
    assert {path.stem for path in (one_env / "figures").iterdir()} == {
        "learning_curves",
        "performance_profiles",
        "probability_of_improvement",
        "wall_clock",
        "time_to_threshold",
    }


def test_a_report_that_cannot_be_finished_leaves_the_old_one(
    one_env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(one_env, tmp_path / "copy")

    def fails(*args: object) -> str:
        raise RuntimeError("no")

    monkeypatch.setattr(report, "write_figures", lambda results: [])
    monkeypatch.setattr(report, "html_page", fails)
    with pytest.raises(RuntimeError, match="no"):
        report.write(folder)
    assert content(folder) == content(one_env)


def test_there_is_a_figure_for_each_link(two_envs: Path) -> None:
    linked = re.findall(r"\]\((figures/.*?\.png)\)", (two_envs / "report.md").read_text(encoding="utf-8"))
    assert linked == [
        f"figures/{name}.png"
        for name in (
            "learning_curves",
            "sample_efficiency",
            "performance_profiles",
            "probability_of_improvement",
            "wall_clock",
        )
    ]
    for name in linked:
        pixels = imread(two_envs / name)
        assert min(pixels.shape[:2]) > 200 and pixels[..., :3].std() > 0.01


def test_figures_say_nothing_about_the_program(two_envs: Path) -> None:
    chunks = (two_envs / "figures" / "learning_curves.png").read_bytes()
    assert b"Softwarecrashalgos" in chunks.replace(b"\0", b"") and b"matplotlib" not in chunks.lower()


def test_no_two_of_many_contenders_look_alike() -> None:
    looks = [figures.look(figures.Contender(str(i), str(i), i)) for i in range(20)]
    assert len({(look["color"], str(look["linestyle"]), look["marker"]) for look in looks}) == 20
    # For print in grey, and where curves coincide: lines alone tell the first nine apart, and so do markers.
    assert len({str(look["linestyle"]) for look in looks[:9]}) == len({look["marker"] for look in looks[:9]}) == 9


def test_labels_of_a_legend_are_shown_whatever_signs_they_have(two_envs: Path) -> None:
    with figures.house_style():
        figure = figures.learning_curves(load(two_envs))
        (legend,) = figure.legends
        texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["A & B <b>", "_b_ $x^2$ | *c*", "c", "one run", "95 % interval"]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_at_most_two_panels_stand_in_a_row(n: int) -> None:
    figure, panels = figures.grid_of_panels(n)
    spec = panels[0].get_subplotspec()
    assert spec is not None
    assert (spec.get_gridspec().ncols, spec.get_gridspec().nrows) == (min(n, 2), (n + 1) // 2)
    assert len(panels) == n and sum(axes.axison for axes in figure.axes) == n


def test_learning_curves_show_every_run_and_the_iqm(tmp_path: Path) -> None:
    figure = figures.learning_curves(load(four_seeds(tmp_path)))
    (panel,) = figure.axes
    thin = [line for line in panel.lines if line.get_linewidth() < 1]
    thick = [line for line in panel.lines if line.get_linewidth() > 1]
    assert len(thin) == 8 and [np.asarray(line.get_ydata())[-1] for line in thick] == [250.0, 500.0]


class Elements(HTMLParser):
    """The start tags of a page, and the text of its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("h1", "h2", "h3") and data.strip():
            self.headings.append(data)


def elements(text: str) -> Elements:
    parser = Elements()
    parser.feed(text)
    return parser


def test_the_page_needs_nothing_else(two_envs: Path) -> None:
    page = elements((two_envs / "report.html").read_text(encoding="utf-8"))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "a", "base", "form"}
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href", "srcset")]
    assert len(links) == 5 and all(link is not None and link.startswith("data:image/png;base64,") for link in links)
    assert not re.search(r"url\(|@import", (two_envs / "report.html").read_text(encoding="utf-8"))
    assert ("html", {"lang": "en"}) in page.tags and "title" in names
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")


def test_the_page_says_what_the_markdown_says(two_envs: Path) -> None:
    text = (two_envs / "report.md").read_text(encoding="utf-8")
    page = elements((two_envs / "report.html").read_text(encoding="utf-8"))
    assert page.headings == re.findall("^#+ (.*)$", text, re.MULTILINE)
    n_tables = len(re.findall(r"^\| :?---", text, re.MULTILINE))
    assert sum(tag == "table" for tag, _ in page.tags) == n_tables > 5


def test_what_comes_from_outside_is_shown_as_it_is(two_envs: Path) -> None:
    page = (two_envs / "report.html").read_text(encoding="utf-8")
    reason = "RuntimeError: <script>alert(1)</script> | `x` & [y](http://example.org)"
    assert f"<td>{html.escape(reason, quote=False)}</td>" in page and "<script" not in page
    for label in ("A & B <b>", "_b_ $x^2$ | *c*"):
        assert f"<td>{html.escape(label, quote=False)}</td>" in page


@pytest.mark.parametrize(
    "text", ["plain_name-v1.0", "_a_", "__a__", "*a*", "`a`", "a|b", "<i>", "&amp;", r"\*", "[a](b)", "~~a~~"]
)
def test_escaped_text_comes_out_unchanged(text: str) -> None:
    page = report.html_page(f"| x |\n| --- |\n| {report.escape(text)} |", "t", {})
    assert f"<td>{html.escape(text, quote=False)}</td>" in page


def test_a_code_block_holds_backticks() -> None:
    page = report.html_page(report.fence("a\n```\n<b>", "yaml"), "t", {})
    assert "a\n```\n&lt;b&gt;\n</code></pre>" in page


def test_settings_command_and_versions(tmp_path: Path) -> None:
    config = {
        "command": "python scripts/compare.py --algos 'x=ppo{gamma: 0.9}'",
        "untuned": "class defaults: x in CartPole-v1",
    }
    text = report.markdown(load(write_folder(tmp_path, {("a", ENV, 0): (20.0, 30.0, 40.0)}, config=config)), [])
    assert f"```sh\n{config['command']}\n```" in text and "python scripts/report.py FOLDER" in text
    assert "class defaults: x in CartPole-v1." in text
    assert "```yaml\na:\n  CartPole-v1:\n    n_envs: 1\n    policy: MlpPolicy\n```" in text
    assert "```yaml\nn_timesteps: 200\nseeds: 1\neval_freq: 100\neval_episodes: 2\ncheckpoint_freq: 100\ndevice:" in text
    assert "At every `checkpoint_freq` environment steps" in text and "how many runs there were at a time" in text
    assert "python 3.11; commit abc123; x86_64, 2 cores." in text


@pytest.mark.parametrize(("jobs", "text"), [(4, ", 4 runs at a time."), (1, ", 1 run at a time."), (None, ".")])
def test_how_many_runs_there_were_at_a_time(jobs: int | None, text: str) -> None:
    versions = {"versions": {"python": "3.11"}, "git_commit": "abc123", "machine": "x86_64", "cores": 2}
    line = report.versions_line(versions | ({"jobs": jobs} if jobs else {}))
    assert line == f"python 3.11; commit abc123; x86_64, 2 cores{text}"


def test_the_terminals_table(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(report.terminal_table(load(four_seeds(tmp_path))))
    assert isinstance(console.file, io.StringIO)
    a, b = (line for line in console.file.getvalue().splitlines() if ENV in line)
    assert re.search(r"A\s+│\s+275\.0 │\s+250\.0 \[\d+\.0, \d+\.0\] │\s+4 │\s+75 ", a)
    assert re.search(r"B\s+│\s+490\.0 │\s+500\.0 \[\d+\.0, 500\.0\] │\s+4 │\s+100 ", b)


@pytest.mark.parametrize(
    ("seeds", "text"), [([0, 1, 2], "0–2"), ([5, 0, 2, 1], "0–2, 5"), ([7], "7"), ([1, 3, 5, 6], "1, 3, 5–6")]
)
def test_ranges_of_seeds(seeds: list[int], text: str) -> None:
    assert report.ranges(seeds) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1234.56, 1, "1,234.6"), (-0.04, 1, "0.0"), (-0.06, 1, "-0.1"), (float("nan"), 1, "–"), (float("inf"), 0, "–")],
)
def test_numbers(value: float, digits: int, text: str) -> None:
    assert report.number(value, digits) == text


@pytest.mark.parametrize(("scale", "digits"), [(0.0, 1), (478.0, 1), (20.0, 1), (1.0, 2), (0.3, 3)])
def test_decimals_make_a_hundredth_of_the_range_visible(scale: float, digits: int) -> None:
    assert report.decimals(scale) == digits


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on PATH")
def test_a_browser_shows_the_headings_and_the_figures(two_envs: Path, tmp_path: Path) -> None:
    page = (two_envs / "report.html").read_text(encoding="utf-8")
    dom = chromium(two_envs / "report.html", "--dump-dom", tmp_path)
    assert elements(dom).headings == elements(page).headings

    # Without its figures the page has none of the first contender's colour.
    broken = tmp_path / "broken.html"
    broken.write_text(re.sub('base64,[^"]*', "base64,AAAA", page), encoding="utf-8")
    assert coloured_pixels(two_envs / "report.html", tmp_path) > 1_000 > coloured_pixels(broken, tmp_path)


def coloured_pixels(page: Path, tmp_path: Path) -> int:
    picture = tmp_path / "page.png"
    chromium(page, f"--screenshot={picture}", tmp_path)
    rgb = (255 * imread(picture)[..., :3]).round().astype(int)
    wanted = [int(figures.COLORS[0][i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(rgb - wanted).max(axis=-1) <= 3).sum())


def chromium(page: Path, action: str, tmp_path: Path) -> str:
    assert CHROMIUM is not None
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    more = "--disable-component-update --disable-sync --hide-scrollbars --window-size=1100,6000"
    command = [CHROMIUM, *flags.split(), *more.split(), f"--user-data-dir={tmp_path / 'profile'}", action, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
