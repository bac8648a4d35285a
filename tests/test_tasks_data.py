"""The committed questions: reproducible, disjoint, balanced, and right.

Answers are worked out here from the text of the question, not by the generator's code.
"""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

TASKS = Path(__file__).parent.parent / "tasks"
YAML_FILES = sorted(TASKS.glob("suite_*.yaml"))
CONTROLS = sorted((TASKS / "controls").glob("*.yaml"))
Row = dict[str, Any]


def config_of(path: Path) -> Row:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rows_of(task: str, split: str) -> list[Row]:
    path = TASKS / "data" / task / f"{split}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def all_rows(task: str) -> list[Row]:
    return rows_of(task, "train") + rows_of(task, "test")


def question_of(row: Row) -> object:
    """What identifies an item: its text, or the two sentences in either order."""
    return row.get("question") or row.get("text") or frozenset(row["choices"])


NAMES = [path.stem for path in YAML_FILES]
CHOICE_TASKS = [name for name in NAMES if "choices" in rows_of(name, "test")[0]]
QUESTION_TASKS = [name for name in CHOICE_TASKS if "question" in rows_of(name, "test")[0]]


def run_generator(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_generator_reproduces_every_committed_file():
    result = run_generator(TASKS / "generate.py", "--check")
    assert (result.returncode, result.stdout) == (0, "")


def test_the_check_names_a_file_that_differs(tmp_path):
    copied = tmp_path / "tasks"
    shutil.copytree(TASKS, copied)
    changed = copied / "data" / "suite_copy" / "test.jsonl"
    changed.write_text("{}\n")

    result = run_generator(copied / "generate.py", "--check")

    assert result.returncode == 1
    assert str(changed) in result.stdout


def test_the_data_folders_are_those_of_the_tasks():
    assert sorted(path.name for path in (TASKS / "data").iterdir()) == NAMES


@pytest.mark.parametrize("path", YAML_FILES + CONTROLS, ids=lambda path: path.stem)
def test_a_task_is_named_after_its_file_and_finds_its_data(path):
    config = config_of(path)
    assert config["task"] == path.stem
    for split, name in config["dataset_kwargs"]["data_files"].items():
        assert (path.parent / name).resolve() == TASKS / "data" / _base(path) / f"{split}.jsonl"
        assert (path.parent / name).is_file()


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.stem)
def test_a_task_says_what_it_measures_and_has_a_version(path):
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert config_of(path)["metadata"] == {"version": 1.0}


def test_every_task_with_a_question_has_a_control_without_it():
    assert [_base(path) for path in CONTROLS] == QUESTION_TASKS
    assert {config_of(path)["doc_to_text"] for path in CONTROLS} == {""}


@pytest.mark.parametrize("task", NAMES)
def test_splits_have_their_sizes_and_share_no_question(task):
    train, test = (
        [question_of(row) for row in rows_of(task, split)] for split in ("train", "test")
    )
    assert (len(train), len(test)) == (100, 150)
    assert len(set(train + test)) == 250


@pytest.mark.parametrize("task", CHOICE_TASKS)
def test_choices_are_distinct_and_the_gold_index_points_at_one(task):
    for row in all_rows(task):
        assert len(set(row["choices"])) == len(row["choices"])
        assert 0 <= row["gold"] < len(row["choices"])
        assert all(choice == choice.strip() != "" for choice in row["choices"])


@pytest.mark.parametrize("task", CHOICE_TASKS)
def test_no_position_holds_the_answer_much_more_often(task):
    rows = rows_of(task, "test")
    most = max(Counter(row["gold"] for row in rows).values())
    assert most <= (0.4 if len(rows[0]["choices"]) == 4 else 0.6) * len(rows)


@pytest.mark.parametrize("task", QUESTION_TASKS)
def test_no_choice_is_right_more_often_than_by_chance(task):
    rows = rows_of(task, "test")
    num_choices = len(rows[0]["choices"])
    offered = Counter(choice for row in rows for choice in row["choices"])
    right = Counter(row["choices"][row["gold"]] for row in rows)
    # One more than chance at most: the last block may be cut short.
    assert all(right[choice] <= count / num_choices + 1 for choice, count in offered.items())


@pytest.mark.parametrize("task", QUESTION_TASKS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_each_choice_of_a_block_is_right_once(task, split):
    rows = rows_of(task, split)
    numbers = {row["block"] for row in rows}
    blocks = [[row for row in rows if row["block"] == number] for number in numbers]
    for block in blocks:
        answers = [row["choices"][row["gold"]] for row in block]
        assert len({frozenset(row["choices"]) for row in block}) == 1
        assert len(set(answers)) == len(answers)
    assert sum(len(block) < len(block[0]["choices"]) for block in blocks) <= 1


def _calculate(problem: str) -> str:
    left, sign, right = problem.split()
    one, two = int(left), int(right)
    return str({"+": one + two, "-": one - two, "*": one * two}[sign])


def _quoted(question: str) -> list[str]:
    return re.findall(r'"(\w+)"', question)


def _count(question: str) -> str:
    if question.startswith("How many letters"):
        return str(len(_quoted(question)[0]))
    letter, word = _quoted(question)
    return str(sum(character == letter for character in word))


def _contains(question: str) -> str:
    word, letter = _quoted(question)
    return "Yes" if letter in word else "No"


def _substitute(question: str) -> str:
    word, old, new = _quoted(question)
    return "".join(new if character == old else character for character in word)


ANSWERS = {
    "suite_arithmetic_choice": lambda question: _calculate(question.removesuffix(" =")),
    "suite_spell": lambda question: "-".join(_quoted(question)[0]),
    "suite_reverse": lambda question: "".join(reversed(_quoted(question)[0])),
    "suite_count_letters": _count,
    "suite_contains_letter": _contains,
    "suite_substitute": _substitute,
}


@pytest.mark.parametrize("task", ANSWERS)
def test_the_right_choice_follows_from_the_question(task):
    for row in all_rows(task):
        assert row["choices"][row["gold"]] == ANSWERS[task](row["question"]), row["question"]


def test_number_sequences_continue_with_the_right_choice():
    rows = [row for row in all_rows("suite_sequences") if row["kind"] == "numbers"]
    assert len(rows) > 50
    for row in rows:
        terms = [int(term) for term in row["question"].rstrip(",").split(", ")]
        terms.append(int(row["choices"][row["gold"]]))
        assert len({after - before for before, after in pairwise(terms)}) == 1


def test_arithmetic_answers_are_right():
    for row in all_rows("suite_arithmetic"):
        assert row["answer"] == _calculate(row["question"]), row["question"]


def _story_answer(kind: str, question: str) -> int:
    one, two, three = (int(number) for number in re.findall(r"\d+", question))
    # Three gains add up; bags and purchases are so many of a size, and some more.
    return {"gains": one + two, "bags": one * two, "shopping": one * two}[kind] + three


def test_word_problems_are_right_and_end_in_the_marked_answer():
    for row in all_rows("suite_word_problems"):
        answer = _story_answer(row["kind"], row["question"])
        assert row["answer"] == str(answer), row["question"]
        assert re.search(r"#### (\d+)$", row["solution"]).group(1) == str(answer)


def test_the_steps_of_a_word_problem_are_right_and_lead_to_its_answer():
    for row in all_rows("suite_word_problems"):
        steps = row["solution"].split(" #### ")[0].split(" and ")
        assert len(steps) == 2
        results = [step.split(" = ") for step in steps]
        assert all(_calculate(problem) == result for problem, result in results), row["solution"]
        assert results[1][0].startswith(results[0][1] + " ")
        assert results[1][1] == row["answer"]


@pytest.mark.parametrize("task", ["suite_arithmetic", "suite_copy", "suite_word_problems"])
def test_the_generation_limit_lets_a_byte_level_model_finish(task):
    field = {"suite_arithmetic": "answer", "suite_copy": "text"}.get(task, "solution")
    longest = max(len(row[field].encode()) for row in all_rows(task))
    limit = config_of(TASKS / f"{task}.yaml")["generation_kwargs"]["max_gen_toks"]
    assert longest + len(" \n") <= limit


def test_copied_texts_cover_the_scripts_without_latin_letters():
    rows = all_rows("suite_copy")
    assert len({row["script"] for row in rows}) == 11
    assert not any(re.search("[A-Za-z]", row["text"]) for row in rows)


def test_passages_are_pieces_of_the_extract_and_topics_stay_in_one_split():
    lines = (TASKS / "python_docs_topics.jsonl").read_text(encoding="utf-8").splitlines()
    extract = {row["topic"]: row["text"] for row in map(json.loads, lines)}
    for row in all_rows("suite_bits_per_byte"):
        assert row["text"] in extract[row["topic"]]
        assert 300 <= len(row["text"].encode()) <= 500
    train, test = (
        {row["topic"] for row in rows_of("suite_bits_per_byte", split)}
        for split in ("train", "test")
    )
    assert not train & test


def _base(path: Path) -> str:
    return path.stem.removesuffix("_choices_only")
