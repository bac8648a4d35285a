"""Runs with a checkpoint of a tiny model, as training leaves them; for tests of what follows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from suite.distill.checkpoint import save_checkpoint
from suite.distill.lora import LoraConfig, add_adapters
from suite.distill.settings import CheckpointConfig
from suite.distill.state import SavedTensors, TrainingState
from suite.models.adapters import save_adapter

FACTS: dict[str, Any] = {
    "command": "transfer",
    "title": "Tiny to bytes",
    "recipe": {
        "train": "full",
        "losses": [{"name": "alm", "temperature": 5.0, "gamma": None}, {"name": "sft"}],
        "training": {"seed": 3, "balance": "fixed", "optimiser": {"learning_rate": 3e-5}},
    },
    "sources": {"model": "hub:org/tiny", "tokenizer": "path:/home/me/own tokenizer"},
    "model_types": ["llama"],
    "weights": "float32, trained",
    "figures": {"rank_correlation": 0.912345678, "num_groups": 1234, "loss": None},
}


def save_run(run: Path, write: Any, step: int = 20, **facts: Any) -> Path:
    """A checkpoint; `write` fills its model."""
    state = TrainingState(step=step, num_bytes=9000, num_teacher_tokens=3000, num_student_tokens=9)
    tensors = SavedTensors({"exp_avg/x": torch.zeros(3)}, {})
    keep = CheckpointConfig(keep_last=9)
    return save_checkpoint(run, state, tensors, write, facts=FACTS | facts, config=keep).folder


def full_run(run: Path, model_folder: Path, **facts: Any) -> Path:
    """A run that trains all weights; returns its checkpoint."""

    def write(folder: Path) -> None:
        ignored = shutil.ignore_patterns("manifest.json")
        shutil.copytree(model_folder, folder / "model", ignore=ignored)
        (folder / "model" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")

    return save_run(run, write, **facts)


def lora_run(run: Path, model_folder: Path, **facts: Any) -> Path:
    """A run that trains adapters, embedding and head; returns its checkpoint."""
    shutil.copytree(model_folder, run / "start")
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = add_adapters(base, LoraConfig(rank=4, alpha=8), trains_ends=True)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(0.05 * torch.randn_like(weight))
    return save_run(
        run, lambda folder: save_adapter(model, folder / "adapter"), base="start", **facts
    )
