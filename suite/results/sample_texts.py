"""A logged item as a reader sees it: prompt, expected and given answer."""

from __future__ import annotations

from typing import Any

from suite.records import RunRecord, Sample
from suite.results.numbers import number
from suite.results.sample_lines import Line, metric_names, option_likelihoods, requests_of


def sample_of(record: RunRecord, line: Line) -> Sample:
    """The texts of one logged item; all of them are untrusted."""
    requests = requests_of(line)
    prompt = str(requests[0][0]) if requests and requests[0] else ""
    target = str(line.get("target", ""))
    likelihoods = option_likelihoods(line)
    if likelihoods is None:
        answer = _plain(line.get("filtered_resps", ""))
    else:
        prompt, options = options_of(requests, len(likelihoods))
        answer = options[likelihoods.index(max(likelihoods))]
        target = options[int(target)] if _is_index(target, options) else target
        prompt = f"{prompt}\n[{' | '.join(options)}]"
    scores = (_score(line[name]) for name in metric_names(line))
    score = next((score for score in scores if score is not None), None)
    return Sample(record.model, record.label, prompt, target, answer, score)


def options_of(requests: list[list[Any]], num_options: int) -> tuple[str, list[str]]:
    """What all options of a choice share, and the options; numbers where no texts were logged.

    In tasks of two possible beginnings and one end the options stand in the prompts.
    """
    requests = requests[:num_options]
    if len(requests) < num_options or any(len(request) < 2 for request in requests):
        prompt = str(requests[0][0]) if requests and requests[0] else ""
        return prompt, [str(option) for option in range(num_options)]
    endings = [str(request[1]).strip() for request in requests]
    if len(set(endings)) == 1:
        return endings[0], [str(request[0]).strip() for request in requests]
    return str(requests[0][0]), endings


def _is_index(target: str, options: list[str]) -> bool:
    return target.isdecimal() and int(target) < len(options)


def _plain(answers: Any) -> str:
    """A one-element list stands for its element."""
    while isinstance(answers, list) and len(answers) == 1:
        answers = answers[0]
    return str(answers)


def _score(value: Any) -> float | None:
    return None if isinstance(value, str) else number(value)
