"""Results files on disk, read back as records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from suite.errors import RecordError
from suite.records import MetricScore, RunRecord, Sample, TaskScores
from suite.results.derived import Items, item_of

ReadT = TypeVar("ReadT")


def load_results(folder: Path | str) -> tuple[RunRecord, ...]:
    """Every finished run below a folder, oldest first.

    Only files written by this suite are read: they carry the key `suite`.

    Raises:
        RecordError: A results file is not readable JSON; names it.
    """
    records = []
    for path in sorted(Path(folder).glob("*/results_*.json"), key=lambda path: path.name):
        data = _read_json(path)
        if "suite" in data:
            records.append(_record(path, data))
    return tuple(records)


def read_samples(record: RunRecord, filter_name: str, *, limit: int) -> tuple[Sample, ...]:
    """The first `limit` items of a run as scored under one filter, for the page's item browser.

    A run that was computed from the samples of others has none.

    Raises:
        RecordError: A samples file is not readable.
    """
    lines = _sample_lines(record, filter_name, partial(_sample, record))
    return tuple(sample for _, sample in islice(lines, limit))


def read_items(record: RunRecord, metric: str, filter_name: str) -> Items:
    """What each item of a run was answered and how that was scored, under one metric and filter.

    Raises:
        RecordError: A results or samples file is not readable.
    """
    if record.file is None:
        raise RecordError(f"{record.model} · {record.label}: computed from samples, so it has none")
    configs = _read_json(Path(record.file)).get("configs", {})

    def read(line: dict[str, Any]) -> tuple[int, str, dict[str, Any]]:
        return int(line["doc_id"]), str(line["doc_hash"]), line

    items = {}
    for task, (doc_id, doc_hash, line) in _sample_lines(record, filter_name, read):
        delimiter = configs.get(task, {}).get("target_delimiter", " ")
        items[task, doc_id, doc_hash] = item_of(line, metric, delimiter)
    return items


def _sample_lines(
    record: RunRecord, filter_name: str, read: Callable[[dict[str, Any]], ReadT]
) -> Iterator[tuple[str, ReadT]]:
    """Task and what `read` makes of a logged sample, for each sample under one filter."""
    if record.file is None:
        return
    results = Path(record.file)
    stamp = results.stem.removeprefix("results_")
    for path in sorted(results.parent.glob(f"samples_*_{stamp}.jsonl")):
        task = path.stem.removeprefix("samples_").removesuffix(f"_{stamp}")
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    data = json.loads(line)
                    found = read(data) if data["filter"] == filter_name else None
                except (ValueError, KeyError, TypeError) as error:
                    raise RecordError(f"{path}: not a readable samples file ({error})") from error
                if found is not None:
                    yield task, found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: not a readable results file ({error}); move it away") from error
    if not isinstance(data, dict) or "results" not in data:
        raise RecordError(f"{path}: not a results file of lm-eval (no key 'results')")
    return data


def _record(path: Path, data: dict[str, Any]) -> RunRecord:
    try:
        return _read_record(path, data)
    except (KeyError, TypeError) as error:
        raise RecordError(
            f"{path}: written by another version of the suite ({error} is missing or different);"
            " move it away"
        ) from error


def _read_record(path: Path, data: dict[str, Any]) -> RunRecord:
    facts = data["suite"]
    return RunRecord(
        model=facts["model"],
        label=facts["label"],
        task=_task_scores(facts["task"], data),
        key=facts["key"],
        identity=facts["identity"],
        seconds=facts["seconds"],
        hardware=facts["hardware"],
        file=str(path),
        weights=tuple(weights) if (weights := facts.get("ensemble_weights")) else None,
        has_converged=facts.get("weights_fit", {}).get("converged", True),
    )


def _task_scores(task: str, data: dict[str, Any]) -> TaskScores:
    """Scores of a task, or of a group where the task's name is a group's."""
    block = data["results"].get(task) or data.get("groups", {}).get(task, {})
    members = _leaves(task, data.get("group_subtasks", {}))
    sizes = [data["n-samples"][name]["effective"] for name in members if name in data["n-samples"]]
    directions = _directions([task, *members], data.get("higher_is_better", {}))
    shots = {data["n-shot"][name] for name in members if name in data.get("n-shot", {})}
    return TaskScores(
        task=task,
        scores=_in_declared_order(_metric_scores(block, directions), task, data),
        num_items=sum(sizes) if sizes else None,
        num_fewshot=shots.pop() if len(shots) == 1 else None,
        version=str(data.get("versions", {}).get(task, "unknown")),
        num_truncated=data["suite"]["num_truncated"],
    )


def _leaves(task: str, members: dict[str, list[str]]) -> list[str]:
    """The single tasks below a task or (nested) group."""
    below = members.get(task)
    return [leaf for name in below for leaf in _leaves(name, members)] if below else [task]


def _directions(
    names: list[str], declared: dict[str, dict[str, bool | None]]
) -> dict[str, bool | None]:
    """Whether more is better, by metric; lm-eval leaves it open for groups of groups."""
    found: dict[str, bool | None] = {}
    for name in names:
        for metric, better in declared.get(name, {}).items():
            if found.get(metric) is None:
                found[metric] = better
    return found


def _metric_scores(
    block: dict[str, Any], directions: dict[str, bool | None]
) -> tuple[MetricScore, ...]:
    """lm-eval joins metric and filter with a comma, and writes "N/A" for an unknown error."""
    scores = []
    for key, value in block.items():
        metric, comma, filter_name = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        stderr = block.get(f"{metric}_stderr,{filter_name}")
        scores.append(
            MetricScore(
                metric=metric,
                filter=filter_name,
                value=_number(value),
                stderr=_number(stderr),
                higher_is_better=directions.get(metric),
            )
        )
    return tuple(scores)


def _in_declared_order(
    scores: tuple[MetricScore, ...], task: str, data: dict[str, Any]
) -> tuple[MetricScore, ...]:
    """Metrics as the task's definition lists them: its first is its main one."""
    declared = data.get("configs", {}).get(task, {}).get("metric_list") or []
    names = [entry.get("metric") for entry in declared]
    return tuple(
        sorted(scores, key=lambda s: names.index(s.metric) if s.metric in names else len(names))
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _sample(record: RunRecord, line: dict[str, Any]) -> Sample:
    requests = list(line["arguments"].values())
    answers = [_plain(answer) for answer in line["filtered_resps"]]
    is_choice = len(requests) > 1
    prompt = requests[0]["arg_0"]
    if is_choice:
        options = [str(request.get("arg_1", "")).strip() for request in requests]
        answer = options[max(range(len(options)), key=lambda i: _likelihood(answers[i]))]
        prompt = f"{prompt}\n[{' | '.join(options)}]"
        target = line["target"]
        target = options[int(target)] if target.isdigit() and int(target) < len(options) else target
    else:
        answer, target = str(answers[0]), str(line["target"])
    metrics = [line[name] for name in line.get("metrics", []) if name in line]
    score = next((float(m) for m in metrics if isinstance(m, (int, float))), None)
    return Sample(record.model, record.label, prompt, target, answer, score)


def _plain(answer: Any) -> Any:
    """A one-element list stands for its element."""
    return answer[0] if isinstance(answer, list) and len(answer) == 1 else answer


def _likelihood(answer: Any) -> float:
    """The log-likelihood in a choice's answer, `["-12.3", "False"]`."""
    return float(answer[0] if isinstance(answer, list) else answer)
