"""What is measured while a student trains: held-out figures and a short benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console

from suite.distill.held_out import measure_held_out
from suite.distill.losses.alm import AlmConfig
from suite.distill.train import OBJECTIVE
from suite.pipelines.training_session import Session, rows_per_pass


class HeldOut:
    """Measures the student of a session on the held-out rows; remembers the last figures."""

    def __init__(self, session: Session) -> None:
        """The rows are read once."""
        self._session = session
        self._rows = session.inputs.held_out_rows()
        losses = session.inputs.recipe.losses
        # Figures of runs with other losses are taken in the same way.
        self._config = next((loss for loss in losses if isinstance(loss, AlmConfig)), AlmConfig())
        self.figures: dict[str, Any] = {}

    def __call__(self, step: int) -> Mapping[str, Any]:
        """Figures by name; `objective` is the mean distance, or bits per byte without a teacher."""
        session = self._session
        found = measure_held_out(
            session.student,
            session.held_out_teachers,
            self._rows,
            self._config,
            rows_per_pass=rows_per_pass(
                session.inputs.recipe.training, session.accelerator.num_processes
            ),
        )
        objective = found.mean_distance
        if not session.held_out_teachers:
            objective = found.student_bits_per_byte
        self.figures = {"step": step, **asdict(found)}
        return {**self.figures, OBJECTIVE: objective}

    def tell(self, console: Console) -> None:
        """Print the last figures in one line."""
        found = self.figures
        shown = [f"{found['student_bits_per_byte']:.4f} bits per byte"]
        if found["mean_distance"] is not None:
            shown.append(f"mean |t - s| {found['mean_distance']:.4f}")
        if found["rank_correlation"] is not None:
            shown.append(f"rank correlation {found['rank_correlation']:.4f}")
        line = f"step {found['step']:,}, held-out text: {', '.join(shown)}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
