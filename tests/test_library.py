"""The examples of docs/library.md run, and its table names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments
from written_runs import write_run

import suite

TEXT = (Path(__file__).parents[1] / "docs" / "library.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
TEXTS = ["the hen is in the pen", "other things: there", "in the end, é"]


def test_every_public_name_is_in_the_table() -> None:
    table = re.findall(r"^\| (`\w+.*?) \|", TEXT, flags=re.MULTILINE)
    named = {name for cell in table for name in re.findall(r"`(\w+)", cell)}
    elsewhere = {"__version__", "load_results", "run_benchmark"}
    assert named == set(suite.__all__) - elsewhere


def test_the_example_adds_alm_to_a_trainer_and_the_student_learns(
    tiny_model_merges: Path, tiny_model: Path, tmp_path: Path
) -> None:
    names: dict = {}
    exec(EXAMPLES[0], names)
    folders = [tiny_model_merges, tiny_model]
    teacher, student = map(AutoModelForCausalLM.from_pretrained, folders)
    with torch.no_grad():
        # Another teacher than the student's starting point.
        teacher.lm_head.weight.mul_(1.5)
    tokenizers = [
        suite.open_tokenizer(AutoTokenizer.from_pretrained(folder), name=folder.name)
        for folder in folders
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=12,
        per_device_train_batch_size=3,
        learning_rate=3e-3,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = names["AlmTrainer"](
        student, arguments, train_dataset=TEXTS, teacher=teacher, tokenizers=tokenizers
    )
    before = {name: weight.clone() for name, weight in teacher.named_parameters()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.named_parameters())


def test_a_teacher_is_its_own_best_student(tiny_model_merges: Path, tmp_path: Path) -> None:
    names: dict = {}
    exec(EXAMPLES[0], names)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_merges)
    tokenizer = suite.open_tokenizer(AutoTokenizer.from_pretrained(tiny_model_merges), name="same")
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    trainer = names["AlmTrainer"](
        model, arguments, teacher=model, tokenizers=[tokenizer, tokenizer]
    )
    assert trainer.compute_loss(model, {"texts": TEXTS}).item() == pytest.approx(0, abs=1e-7)


def test_the_example_is_short() -> None:
    lines = [line for line in EXAMPLES[0].splitlines() if line.strip()]
    assert len(lines) <= 33


def test_the_example_of_statistics_compares_two_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "base", "base", {"colours": [1, 1, 0, 0] * 10})
    write_run(tmp_path / "new", "new", {"colours": [1, 1, 1, 0] * 10})
    names: dict = {"folder": tmp_path}
    [example] = [text for text in EXAMPLES if "check_comparable" in text]
    exec(example, names)
    assert names["found"].difference.value == pytest.approx(0.25)
    assert names["found"].p_value == pytest.approx(2 * 0.5**10)
