"""How fast token log-probabilities are and what memory they add, against other ways and products.

Legend: T tokens, V vocabulary, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from suite.errors import ConfigError
from suite.files import write_atomically
from suite.models.loading import pick_device
from suite.pipelines.bench.loss_measure import can_run, measure_case
from suite.pipelines.bench.loss_problem import Case
from suite.pipelines.bench.loss_table import render_loss
from suite.pipelines.bench.record import open_folder, write_record
from suite.pipelines.hardware import describe_hardware
from suite.pipelines.plan import versions

CPU_CASES = (Case("cpu", "float32", 4096, 576, 49152),)
CUDA_CASES = (
    Case("cuda", "bfloat16", 8192, 4096, 128256),
    Case("cuda", "bfloat16", 8192, 2304, 256000),
)
# Options and the least they may be: of a single entry, every log-probability is 0.
SIZES = {"tokens": 1, "hidden_size": 1, "vocab_size": 2}


@dataclass(frozen=True, kw_only=True)
class LossBench:
    """What is measured; None keeps what the device's cases have.

    Attributes:
        device: `auto`, `cpu` or `cuda`.
        dtype: Of hidden states and head.
        tokens: T.
        hidden_size: D.
        vocab_size: V.
    """

    device: str = "auto"
    dtype: str | None = None
    tokens: int | None = None
    hidden_size: int | None = None
    vocab_size: int | None = None

    @property
    def command(self) -> str:
        """The call that repeats it."""
        given = {
            _option(field.name): getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        return " ".join(["suite bench loss", *(f"--{name} {it}" for name, it in given.items())])

    def cases(self) -> list[Case]:
        """The cases of the device; without sizes also those whose device is missing.

        Raises:
            SuiteError: A size is too small, or the device is not available.
        """
        for name, least in SIZES.items():
            size = getattr(self, name)
            if size is not None and size < least:
                raise ConfigError(f"--{_option(name)} is {size}, expected at least {least}")
        # Only CUDA has kernels; another accelerator that `auto` finds is passed over.
        if pick_device(self.device) == "cuda":
            found = list(CUDA_CASES)
        else:
            found = list(CPU_CASES)
            if all(getattr(self, name) is None for name in SIZES):
                found += [case for case in CUDA_CASES if not can_run(case)]
        # Given sizes may make two cases the same.
        return list(dict.fromkeys(map(self._changed, found)))

    def _changed(self, case: Case) -> Case:
        return Case(
            device=case.device,
            dtype=self.dtype or case.dtype,
            num_tokens=self.tokens or case.num_tokens,
            hidden_size=self.hidden_size or case.hidden_size,
            vocab_size=self.vocab_size or case.vocab_size,
        )


def _option(name: str) -> str:
    return name.replace("_", "-")


@dataclass(frozen=True)
class LossRecord:
    """The table in Markdown, and the files with the rows and with the table."""

    markdown: str
    files: tuple[Path, Path]


def record_loss(bench: LossBench, output: Path, say: Callable[[str], None]) -> LossRecord:
    """Measure, and write `loss.json` and `loss.md` in a folder.

    Args:
        bench: What is measured.
        output: The folder.
        say: Called with a line at each step.

    Raises:
        SuiteError: An option is wrong, the device is not available, the folder cannot be written,
            or a process that measures memory failed.
    """
    cases = bench.cases()
    folder = open_folder(output)
    rows = [row for case in cases for row in measure_case(case, say)]
    device = cases[0].device
    rows_file = write_record(folder / "loss.json", rows, device=device)
    provenance = {
        "Hardware": describe_hardware(device),
        "PyTorch": versions()["torch"],
        "Repeat with": bench.command,
    }
    table_file = folder / "loss.md"
    markdown = render_loss(rows, provenance)
    write_atomically(table_file, markdown)
    return LossRecord(markdown, (rows_file, table_file))
