"""The committed result folders, and copies of them that a test may damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

TREES = Path(__file__).parent / "trees"
STAMP = "2026-01-01T00-00-00.000000"
FIRST_VERSION_KEYS = {
    "results",
    "groups",
    "group_subtasks",
    "configs",
    "versions",
    "n-shot",
    "config",
}


def copy_tree(name: str, folder: Path) -> Path:
    """A copy of one tree: the folder with its results file."""
    shutil.copytree(TREES / name, folder / name)
    return results_file(folder / name).parent


def results_file(folder: Path) -> Path:
    """The one results file below a folder."""
    [path] = (path for path in folder.rglob("*.json") if not path.name.startswith("samples_"))
    return path


def samples_file(folder: Path, task: str) -> Path:
    """A task's samples file below a folder."""
    [path] = folder.rglob(f"samples_{task}_{STAMP}.jsonl")
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a samples file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write a samples file."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def change_results(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the results file below a folder."""
    path = results_file(folder)
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")
    return path


def change_lines(folder: Path, task: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change every line of a task's samples."""
    path = samples_file(folder, task)
    lines = lines_of(path)
    for line in lines:
        change(line)
    write_lines(path, lines)
    return path


def as_first_version(folder: Path) -> None:
    """Turn a tree into what lm-eval 0.4.0 wrote: fewer keys, lists, other names of files."""
    path = results_file(folder)
    for samples in list(folder.rglob(f"samples_*_{STAMP}.jsonl")):
        task = samples.stem.removeprefix("samples_").removesuffix(f"_{STAMP}")
        lines = [_first_version_line(line) for line in lines_of(samples)]
        samples.unlink()
        older = samples.with_name(f"pretrained__org__drawn,dtype__float32_{task}.jsonl")
        older.write_text(json.dumps(lines, indent=2), encoding="utf-8")
    data = json.loads(path.read_text(encoding="utf-8"))
    for key in data.keys() - FIRST_VERSION_KEYS:
        del data[key]
    for block in data["results"].values():
        for key in ("name", "sample_len", "sample_count"):
            block.pop(key, None)
    data["config"]["model_args"] = "pretrained=org/drawn,dtype=float32"
    path.unlink()
    path.with_name("results.json").write_text(json.dumps(data, indent=2), encoding="utf-8")


def _first_version_line(line: dict[str, Any]) -> dict[str, Any]:
    kept = {
        key: value
        for key, value in line.items()
        if key not in {"filter", "metrics", "doc_hash", "prompt_hash", "target_hash"}
    }
    kept["arguments"] = [list(request.values()) for request in line["arguments"].values()]
    return kept
