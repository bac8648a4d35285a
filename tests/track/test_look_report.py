"""What a check writes: JSON, JUnit XML and Markdown, with every kind of verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from gated_items import binary_pair, items_of, pair_of

from suite.track.junit import junit_xml
from suite.track.look_report import LookReport, number, report_for_store, report_to_json
from suite.track.looks import Spending
from suite.track.regress import judge
from suite.track.summary import markdown_summary

WORST = "a|b <i>`*_\x00\x0b\ud800\ufffe\U0001f600]]>"


def report_of(*pairs: Any, **changes: Any) -> LookReport:
    facts = {
        "series": "s",
        "step": 100,
        "model": "new",
        "run": "runs/x",
        "checkpoint": "c" * 64,
        "pinned_model": "old",
        "pinned": "p" * 64,
        "look": 2,
        "spending": Spending(),
        "alpha": Spending().of_look(2),
        "tasks": judge(pairs, Spending().of_look(2)),
    }
    return LookReport(**(facts | changes))


def all_kinds() -> LookReport:
    return report_of(
        binary_pair(1000, 20, 70, margin=0.02, task="worse"),
        binary_pair(1000, 70, 20, margin=0.02, task="better"),
        binary_pair(1000, 2, 2, margin=0.02, task="same"),
        binary_pair(100, 10, 12, margin=0.02, task="unclear"),
        notes=("unread: not judged, there are no items",),
    )


@pytest.mark.parametrize(
    ("pairs", "verdict", "codes"),
    [
        ([(1000, 10, 90)], "regressed", (1, 1)),
        ([(1000, 90, 10)], "improved", (0, 0)),
        ([(1000, 2, 2)], "pass", (0, 0)),
        ([(100, 10, 12)], "inconclusive", (0, 3)),
        ([(100, 10, 12), (1000, 10, 90)], "regressed", (1, 1)),
        ([(1000, 2, 2), (1000, 90, 10)], "improved", (0, 0)),
    ],
)
def test_exit_codes_follow_the_gravest_verdict(
    pairs: list[tuple[int, int, int]], verdict: str, codes: tuple[int, int]
) -> None:
    report = report_of(*(binary_pair(*counts, margin=0.02) for counts in pairs))
    assert report.verdict == verdict
    assert (report.exit_code(strict=False), report.exit_code(strict=True)) == codes


def test_the_json_tells_all_and_is_valid() -> None:
    report = all_kinds()
    data = json.loads(json.dumps(report_to_json(report, strict=True), allow_nan=False))
    assert data["schema_version"] == 1
    assert (data["verdict"], data["exit_code"]) == ("regressed", 1)
    assert (data["look"], data["planned_looks"], data["alpha"]) == (2, None, 0.05)
    assert data["alpha_of_look"] == Spending().of_look(2)
    assert [task["verdict"] for task in data["tasks"]] == [
        "regressed",
        "improved",
        "pass",
        "inconclusive",
    ]
    assert "terms" not in data
    assert report_for_store(report, Path("/base")).keys() == data.keys() | {"terms"}


@pytest.mark.parametrize("strict", [False, True])
def test_the_xml_has_a_testcase_a_task(strict: bool) -> None:
    root = ElementTree.fromstring(junit_xml(all_kinds(), strict=strict))
    [suite] = root
    assert suite.tag == "testsuite"
    assert (suite.get("tests"), suite.get("errors")) == ("4", "0")
    assert suite.get("failures") == ("2" if strict else "1")
    assert suite.get("skipped") == ("0" if strict else "1")
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    failure = cases["worse"].find("failure")
    assert failure is not None
    assert failure.get("message") == "regressed"
    assert (failure.text or "").startswith(
        "worse acc: 0.9300 against the pinned 0.9800, difference"
    )
    unclear = cases["unclear"].find("failure" if strict else "skipped")
    assert unclear is not None
    assert "inconclusive (MDE = " in (unclear.get("message") or "")
    assert cases["same"].find("failure") is None
    assert [e.text for e in suite.findall("system-out")] == [
        "unread: not judged, there are no items"
    ]


def test_no_text_breaks_the_xml_or_the_table() -> None:
    pair = replace(binary_pair(100, 10, 12, margin=0.02), task=WORST, metric=WORST)
    report = report_of(pair, model=WORST, pinned_model=WORST, notes=(WORST,), series=WORST)
    root = ElementTree.fromstring(junit_xml(report, strict=False).encode())
    case = root.find("testsuite/testcase")
    assert case is not None
    assert case.get("name") == "a|b <i>`*_\U0001f600]]>"
    rows = [line for line in markdown_summary(report).splitlines() if line.startswith("| a")]
    assert len(rows) == 1
    assert rows[0].startswith("| a\\|b \\<i\\>\\`\\*\\_")


def test_the_summary_reads_well() -> None:
    text = markdown_summary(all_kinds())
    assert text.splitlines()[:5] == [
        "## series s, step 100: regressed",
        "",
        "| task | metric | items | pinned | checkpoint | difference | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| worse | acc ↑ | 1,000 | 0.9800 | 0.9300 | -0.0500 [-0.0825, -0.0207] | **regressed** |",
    ]
    assert text.endswith(
        "Checkpoint new against the pinned old. Look 2 spends 0.0076 of alpha 0.05, shared among 4"
        " tasks by Holm's procedure.\n\n- unread: not judged, there are no items\n"
    )


def test_what_is_not_known_is_a_dash_with_its_reason() -> None:
    report = report_of(pair_of(items_of([0.5, 0.7]), items_of([0.25, 0.45])))
    text = markdown_summary(report)
    assert "+0.2500 (no interval) | inconclusive (MDE = –)" in text
    assert "- t: all 2 values are equal" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.0, "0.0000"), (0.12345, "0.1235"), (12.345, "12.35"), (2e-5, "2.0e-05")],
)
def test_numbers_are_short(value: float | None, shown: str) -> None:
    assert number(value) == shown
