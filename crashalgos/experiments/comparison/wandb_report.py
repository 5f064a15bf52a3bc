"""A comparison's report as a W&B run of its own, beside the runs that it compares."""

import hashlib
import json
import os
import shlex
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from crashalgos.common.metadata import plain
from crashalgos.experiments.comparison.figures import DRAWINGS
from crashalgos.experiments.comparison.report import HTML_FILE, MARKDOWN_FILE, compared_pairs, iqm_of, mean_score, pair_verdict
from crashalgos.experiments.comparison.results import EVALUATIONS_FILE, RUNS_FILE, VERSIONS_FILE, Results
from crashalgos.experiments.run.folder import CONFIG_FILE, write_json
from crashalgos.tracking.wandb_run import begin_run, log_folder

if TYPE_CHECKING:
    import wandb

# Which W&B run has the report, and of which results.
STATE_FILE = "wandb_report.json"

SCORE_COLUMNS: list[str | int] = ["environment", "contender", "seed", "return", "stochastic return", "steps", "seconds"]
SUMMARY_COLUMNS: list[str | int] = ["environment", "contender", "runs", "mean", "IQM", "low", "high"]
VERDICT_COLUMNS: list[str | int] = ["environment", "a", "b", "verdict"]


def log_report(results: Results, project: str, tags: Iterable[str] = ()) -> str | None:
    """
    Log tables, figures, the page and the files behind them; nothing if W&B has them already. A comparison that has grown goes
    to the run that has its earlier report. An error of W&B is reported by one warning.

    :param results: a comparison; its report has been written
    :param project: W&B's project
    :param tags: W&B's tags
    :return: where the W&B run is; ``None`` if there is none
    """
    if os.environ.get("WANDB_MODE") == "disabled":
        return None
    state_file = results.folder / STATE_FILE
    state = json.loads(state_file.read_text(encoding="utf-8")) if state_file.exists() else {}
    digest = digest_of([results.folder / RUNS_FILE, results.folder / EVALUATIONS_FILE])
    if state.get("digest") == digest:
        return state["place"]
    hint = ""
    try:
        run, offline_because, _ = begin_run(
            # What began on disk stays there, as WandbCallback has it: `wandb sync` puts the parts together.
            "offline" if state.get("offline") else None,
            project=project,
            name=f"report-{results.folder.resolve().name}"[:128],
            job_type="report",
            tags=[tag[:64] for tag in tags],
            config=plain(results.config),
            dir=results.folder,
            id=state.get("run_id"),
            resume="allow" if state else None,
        )
        folder = Path(run.dir).parent
        hint = f"; to upload it later: wandb sync {'' if run.offline else '--no-skip-online '}{shlex.quote(str(folder))}"
        state = {"run_id": run.id, "offline": run.offline, "place": str(folder) if run.offline else run.url}
        write_json(state_file, state)
        if offline_because is not None:
            warnings.warn(f"W&B: the report is offline ({offline_because}){hint}", stacklevel=2)
        try:
            log_content(run, results)
        except Exception:
            run.finish(exit_code=1)
            raise
        run.finish()
    except Exception as error:
        warnings.warn(
            f"W&B: logging the report failed ({type(error).__name__}: {error}); it is in {results.folder}{hint}", stacklevel=2
        )
        return None
    write_json(state_file, state | {"digest": digest})
    return state["place"]


def digest_of(files: Iterable[Path]) -> str:
    """
    :param files: some files
    :return: what changes with them
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def log_content(run: "wandb.Run", results: Results) -> None:
    """
    :param run: the W&B run
    :param results: a comparison
    """
    import wandb

    folder = results.folder
    figures = [folder / drawing.file for drawing in DRAWINGS if (folder / drawing.file).exists()]
    run.log(
        {
            "scores": wandb.Table(SCORE_COLUMNS, scores(results)),
            "summary": wandb.Table(SUMMARY_COLUMNS, summary(results)),
            "verdicts": wandb.Table(VERDICT_COLUMNS, verdicts(results)),
            "report": wandb.Html((folder / HTML_FILE).read_text(encoding="utf-8")),
            **{f"figures/{figure.stem}": wandb.Image(str(figure)) for figure in figures},
        }
    )
    kept = Path(run.dir) / "comparison"
    names = (CONFIG_FILE, RUNS_FILE, EVALUATIONS_FILE, VERSIONS_FILE, MARKDOWN_FILE, HTML_FILE)
    for file in (*(folder / name for name in names), *figures):
        (kept / file.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, kept / file.relative_to(folder))
    log_folder(run, kept, f"comparison-{run.id}", "comparison")


def scores(results: Results) -> list[list[object]]:
    """
    :param results: a comparison
    :return: rows of ``SCORE_COLUMNS``
    """
    return [
        [run.env, results.label(run.contender), run.seed, run.score, run.stochastic_score, run.num_timesteps, run.seconds]
        for run in results.runs
    ]


def summary(results: Results) -> list[list[object]]:
    """
    :param results: a comparison
    :return: rows of ``SUMMARY_COLUMNS``
    """
    rows: list[list[object]] = []
    for env in results.envs:
        for contender in results.contenders_of(env):
            runs = results.cell(contender, env)
            iqm = iqm_of(runs)
            rows.append([env, contender.label, len(runs), mean_score(runs), iqm.value, iqm.low, iqm.high])
    return rows


def verdicts(results: Results) -> list[list[object]]:
    """
    :param results: a comparison
    :return: rows of ``VERDICT_COLUMNS``
    """
    return [[one.env, one.a.label, one.b.label, pair_verdict(results, one)] for one in compared_pairs(results)]
