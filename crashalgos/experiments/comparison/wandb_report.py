"""A comparison's report as a W&B run of its own, in the project of the compared runs."""

import hashlib
import json
import os
import shlex
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from crashalgos.common.metadata import to_plain
from crashalgos.experiments.comparison.contender_pairs import compare_pairs, pair_verdict
from crashalgos.experiments.comparison.figures import REPORT_FIGURES
from crashalgos.experiments.comparison.report import HTML_FILE, MARKDOWN_FILE
from crashalgos.experiments.comparison.report_tables import iqm_of, mean_score
from crashalgos.experiments.comparison.results import EVALUATIONS_FILE, RUNS_FILE, VERSIONS_FILE, Results
from crashalgos.experiments.run.folder import CONFIG_FILE, write_json
from crashalgos.tracking.wandb_run import begin_run, log_folder

if TYPE_CHECKING:
    import wandb

# Keeps the id of the W&B run with the report, and a digest of the results in it.
_STATE_FILE = "wandb_report.json"

_SCORE_COLUMNS: list[str | int] = ["environment", "contender", "seed", "return", "stochastic return", "steps", "seconds"]
_SUMMARY_COLUMNS: list[str | int] = ["environment", "contender", "runs", "mean", "IQM", "low", "high"]
_VERDICT_COLUMNS: list[str | int] = ["environment", "a", "b", "verdict"]


def log_report(results: Results, project: str, tags: Iterable[str] = ()) -> str | None:
    """
    Logs a comparison's tables, figures, page and files to W&B.

    - Nothing is logged twice: unchanged results are skipped.
    - New results of the same comparison go to the W&B run with its earlier report.
    - An error of W&B gives one warning.

    :param results: the comparison's results; its report has been written
    :param project: W&B's project
    :param tags: W&B's tags
    :return: URL or folder of the W&B run; ``None`` if there is none
    """
    if os.environ.get("WANDB_MODE") == "disabled":
        return None
    state_file = results.folder / _STATE_FILE
    state = json.loads(state_file.read_text(encoding="utf-8")) if state_file.exists() else {}
    digest = _digest([results.folder / RUNS_FILE, results.folder / EVALUATIONS_FILE])
    if state.get("digest") == digest:
        return state["place"]
    hint = ""
    try:
        run, offline_because, _ = begin_run(
            # A run that began offline stays offline, as in WandbCallback: `wandb sync` joins its parts.
            "offline" if state.get("offline") else None,
            project=project,
            name=f"report-{results.folder.resolve().name}"[:128],
            job_type="report",
            tags=[tag[:64] for tag in tags],
            config=to_plain(results.config),
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
            _log_content(run, results)
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


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _log_content(run: "wandb.Run", results: Results) -> None:
    import wandb

    folder = results.folder
    figures = [folder / figure.file for figure in REPORT_FIGURES if (folder / figure.file).exists()]
    run.log(
        {
            "scores": wandb.Table(_SCORE_COLUMNS, _score_rows(results)),
            "summary": wandb.Table(_SUMMARY_COLUMNS, _summary_rows(results)),
            "verdicts": wandb.Table(_VERDICT_COLUMNS, _verdict_rows(results)),
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


def _score_rows(results: Results) -> list[list[object]]:
    return [
        [run.env, results.label(run.contender), run.seed, run.score, run.stochastic_score, run.num_timesteps, run.seconds]
        for run in results.runs
    ]


def _summary_rows(results: Results) -> list[list[object]]:
    rows: list[list[object]] = []
    for env in results.envs:
        for contender in results.contenders_in(env):
            runs = results.runs_of(contender, env)
            iqm = iqm_of(runs)
            rows.append([env, contender.label, len(runs), mean_score(runs), iqm.value, iqm.low, iqm.high])
    return rows


def _verdict_rows(results: Results) -> list[list[object]]:
    return [[one.env, one.a.label, one.b.label, pair_verdict(results, one)] for one in compare_pairs(results)]
