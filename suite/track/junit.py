"""A check as JUnit XML, which CI servers show as tests: one testcase a task."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

from suite.track.look_report import LookReport, sentence, verdict_text
from suite.track.regress import TaskResult

# XML 1.0 has no way to write these, not even as references.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(report: LookReport, *, strict: bool) -> str:
    """The XML text of a check.

    A regression is a failure; an inconclusive task is skipped with a message, with `strict` it is a
    failure too. Sentences of flags are the testcase's output.
    """
    cases = [_case(task, report, strict=strict) for task in report.tasks]
    kinds = [child.tag for case in cases for child in case]
    root = Xml.Element("testsuites")
    suite = Xml.SubElement(
        root,
        "testsuite",
        name=_legal(f"suite track check {report.series}"),
        tests=str(len(cases)),
        failures=str(kinds.count("failure")),
        errors="0",
        skipped=str(kinds.count("skipped")),
    )
    properties = Xml.SubElement(suite, "properties")
    facts = {
        "verdict": report.verdict,
        "model": report.model,
        "pinned": report.pinned_model,
        "spending": report.spent,
    }
    for name, value in facts.items():
        Xml.SubElement(properties, "property", name=name, value=_legal(value))
    suite.extend(cases)
    if report.notes:
        Xml.SubElement(suite, "system-out").text = _legal("\n".join(report.notes))
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, "unicode") + "\n"


def _case(task: TaskResult, report: LookReport, *, strict: bool) -> Xml.Element:
    case = Xml.Element("testcase", name=_legal(task.task), classname=_legal(report.series))
    is_failure = task.verdict == "regressed" or (strict and task.verdict == "inconclusive")
    text = _legal(sentence(task, report))
    if is_failure:
        failure = Xml.SubElement(case, "failure", message=verdict_text(task), type=task.verdict)
        failure.text = text
    elif task.verdict == "inconclusive":
        Xml.SubElement(case, "skipped", message=text)
    else:
        Xml.SubElement(case, "system-out").text = text
    return case


def _legal(text: str) -> str:
    return _ILLEGAL.sub("", text)
