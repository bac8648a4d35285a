"""Training steps as a plain script, from the method's formulas alone.

Every document of a row is run by itself, from whole logits; losses are walks over tokens, chunks
and groups; balancing, clipping and AdamW are written out. Float64 where the model allows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from suite.align.rows import Row, RowSide
from suite.text.tokenizers import OpenedTokenizer

Values = list[Tensor]


@dataclass(frozen=True)
class Said:
    """What a model says about one side of a row, by token: log p, boundary log-prob, states."""

    token: Values
    boundary: Values
    hidden: Values


def log_sum_exp(values: Tensor) -> Tensor:
    highest = values.max()
    return highest + (values - highest).exp().sum().log()


def say(model: Any, tokenizer: OpenedTokenizer, side: RowSide) -> Said:
    """Run each document of one side of a row alone."""
    vocabulary = tokenizer.vocabulary
    num_entries = min(len(vocabulary), model.get_output_embeddings().weight.shape[0])
    starts = torch.tensor(
        [
            entry[:1] in (b" ", b"\t", b"\n") or vocabulary.roles[number] != 0
            for number, entry in enumerate(vocabulary.token_bytes[:num_entries])
        ]
    )
    said = Said([], [], [])
    places = [*[i for i, p in enumerate(side.position_ids) if p == 0], len(side.ids)]
    for first, stop in pairwise(places):
        ids = torch.tensor(side.ids[first:stop].tolist())
        output = model(input_ids=ids[None], output_hidden_states=True, use_cache=False)
        logits = output.logits[0, :, :num_entries].double()
        for i in range(len(ids)):
            whole = log_sum_exp(logits[i])
            before = logits[i - 1, ids[i]] - log_sum_exp(logits[i - 1]) if i else None
            # Nothing may read the number of a first token.
            said.token.append(torch.tensor(math.nan) if before is None else before)
            said.boundary.append(log_sum_exp(logits[i][starts]) - whole)
            said.hidden.append(output.hidden_states[-1][0, i].double())
    return said


def groups_of(row: Row, boundary: Sequence[float], settings: Any) -> list[list[int]]:
    """Chunks of each group that counts, by a walk from left to right."""
    chunks = row.chunks
    groups: list[list[int]] = []
    current: list[int] = []
    for n in range(len(chunks.num_bytes)):
        if chunks.is_begin[n]:
            groups.append(current)
            current = []
            continue
        current.append(n)
        last = boundary[chunks.teacher_spans[n][1] - 1]
        expects_new = not settings.merge or math.exp(last) > settings.gamma
        if expects_new or chunks.closes[n]:
            groups.append(current)
            current = []
    groups.append(current)
    return [group for group in groups if group and all(chunks.in_completion[n] for n in group)]


def group_log_prob(
    group: list[int], spans: Any, token: Sequence[Any], boundary: Sequence[Any], append: bool
) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for n in group:
        for i in range(*spans[n]):
            total = total + token[i]
    if append:
        total = total + boundary[spans[group[-1]][1] - 1]
    return total.clamp(max=0)


def log_one_minus_exp(x: Tensor) -> Tensor:
    return (-torch.expm1(x)).log() if x > -math.log(2) else torch.log1p(-x.exp())


def binarised_kl(t: Tensor, s: Tensor, tau: float, epsilon: float) -> Tensor:
    a, b = t / tau - epsilon, s / tau - epsilon
    p = a.exp()
    return p * (a - b) + (1 - p) * (log_one_minus_exp(a) - log_one_minus_exp(b))


@dataclass
class PlainTerm:
    """A loss before it is divided."""

    sum: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    count: int = 0
    distance: float = 0.0

    def add(self, value: Tensor) -> None:
        self.sum = self.sum + value
        self.count += 1


def mean_square(rows: Sequence[Row], hidden: Sequence[Values]) -> list[float]:
    """Of each channel of the teacher at the ends of the chunks of the first rows."""
    states = [
        said[stop - 1]
        for row, said in zip(rows[:64], hidden[:64], strict=False)
        for _, stop in row.chunks.teacher_spans
    ]
    channels = (sum(state**2 for state in states) / len(states)).tolist()
    return [max(channel, 1e-3 * sum(channels) / len(channels)) for channel in channels]


@dataclass
class Heard:
    """A teacher's signal of a row: two numbers a token, and its states if a loss wants them."""

    token: list[float]
    boundary: list[float]
    hidden: Values | None = None


class PlainTrainer:
    """A student and all that its training needs, step by step.

    Attributes:
        model: A float64 copy of the student.
        losses: Settings by name: `AlmConfig`, `SftConfig`, `HiddenStateConfig`.
        mean_square: The normaliser of hidden states.
        projection: [Dt, Ds] of hidden states; None for none.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: OpenedTokenizer,
        losses: Sequence[Any],
        *,
        balance: str = "fixed",
        scale_by_temperature: bool = True,
        mean_square: list[float] | None = None,
        projection: Tensor | None = None,
    ) -> None:
        self.model = deepcopy(model).double().eval()
        self.tokenizer = tokenizer
        self.losses = {loss.name: loss for loss in losses}
        self.balance = balance
        self.scale_by_temperature = scale_by_temperature
        self.mean_square = mean_square
        self.projection = projection
        self.norms: dict[str, float] = {}
        self.weights: dict[str, float] = {}
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        self.num_steps = 0

    def parameters(self) -> dict[str, Tensor]:
        found = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        return found | ({} if self.projection is None else {"projection.weight": self.projection})

    def terms(self, rows: Sequence[Row], heard: Sequence[Heard]) -> dict[str, PlainTerm]:
        """The losses of all rows of a step."""
        terms = {name: PlainTerm() for name in self.losses}
        for row, signal in zip(rows, heard, strict=True):
            said = say(self.model, self.tokenizer, row.student)
            for name, term in terms.items():
                getattr(self, f"_add_{name}")(term, row, said, signal)
        return terms

    def _add_alm(self, term: PlainTerm, row: Row, said: Said, signal: Heard) -> None:
        settings, chunks = self.losses["alm"], row.chunks
        for group in groups_of(row, signal.boundary, settings):
            teacher = signal.token, signal.boundary
            t = group_log_prob(group, chunks.teacher_spans, *teacher, settings.append)
            student = said.token, said.boundary
            s = group_log_prob(group, chunks.student_spans, *student, settings.append)
            term.add(binarised_kl(t, s, settings.binarization_temperature, settings.epsilon))
            term.distance += float((t - s).detach().abs())

    def _add_sft(self, term: PlainTerm, row: Row, said: Said, signal: Heard) -> None:
        for i in range(len(row.student.ids)):
            if row.student.loss_mask[i]:
                term.add(-said.token[i])

    def _add_hidden_state(self, term: PlainTerm, row: Row, said: Said, signal: Heard) -> None:
        assert signal.hidden is not None
        assert self.mean_square is not None
        scale = len(self.mean_square) * torch.tensor(self.mean_square, dtype=torch.float64)
        ends = zip(row.chunks.teacher_spans, row.chunks.student_spans, strict=True)
        for (_, teacher_stop), (_, student_stop) in ends:
            student, teacher = said.hidden[student_stop - 1], signal.hidden[teacher_stop - 1]
            if self.projection is not None:
                student = self.projection @ student
            term.add(((student - teacher) ** 2 / scale).sum())

    def step_weights(self) -> dict[str, float]:
        """What each loss is multiplied with at this step."""
        names = list(self.losses)
        if self.balance == "fixed":
            given = {n: 1.0 if c.weight is None else c.weight for n, c in self.losses.items()}
            if "alm" in given and self.scale_by_temperature:
                given["alm"] *= self.losses["alm"].binarization_temperature
            return given
        if not self.norms:
            return {name: 1 / len(names) for name in names}
        inverse = {name: 1 / (self.norms[name] + 1e-8) for name in names}
        return {name: inverse[name] / sum(inverse.values()) for name in names}

    def gradients(self, rows: Sequence[Row], heard: Sequence[Heard]) -> Mapping[str, Tensor]:
        """Of all trained parameters at one step; notes the norms that the next one weighs by."""
        parameters = self.parameters()
        last = max(int(n.split(".")[2]) for n in parameters if n.startswith("model.layers."))
        block = [p for n, p in parameters.items() if n.startswith(f"model.layers.{last}.")]
        self.found = self.terms(rows, heard)
        self.weights = self.step_weights()
        total = torch.zeros((), dtype=torch.float64)
        for name, term in self.found.items():
            loss = term.sum / term.count
            parts = torch.autograd.grad(loss, block, retain_graph=True, allow_unused=True)
            squares = [float((part.double() ** 2).sum()) for part in parts if part is not None]
            self.norms[name] = math.sqrt(sum(squares))
            total = total + self.weights[name] * loss
        found = torch.autograd.grad(total, list(parameters.values()), materialize_grads=True)
        return dict(zip(parameters, found, strict=True))

    def step(
        self,
        rows: Sequence[Row],
        heard: Sequence[Heard],
        *,
        learning_rate: float,
        clipping: float | None = None,
        betas: tuple[float, float] = (0.9, 0.95),
        epsilon: float = 1e-8,
    ) -> dict[str, Tensor]:
        """AdamW without weight decay; gives the gradients after clipping."""
        gradients = dict(self.gradients(rows, heard))
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
        self.gradient_norm = norm
        if clipping is not None and norm > clipping:
            gradients = {name: g * (clipping / norm) for name, g in gradients.items()}
        self.num_steps += 1
        with torch.no_grad():
            for name, parameter in self.parameters().items():
                g = gradients[name]
                m, v = self.moments.get(name, (torch.zeros_like(g), torch.zeros_like(g)))
                m = betas[0] * m + (1 - betas[0]) * g
                v = betas[1] * v + (1 - betas[1]) * g * g
                self.moments[name] = m, v
                m_hat = m / (1 - betas[0] ** self.num_steps)
                v_hat = v / (1 - betas[1] ** self.num_steps)
                parameter -= learning_rate * m_hat / (v_hat.sqrt() + epsilon)
        return gradients
