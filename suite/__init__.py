"""alm-suite: train, evaluate and report language models across tokenizers.

Importing this package loads nothing heavy; the names below are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME_OF = {
    "LogProbOptions": "suite.likelihood.options",
    "TeacherCache": "suite.distill.teacher_cache",
    "align_chunks": "suite.align.chunks",
    "alm_loss": "suite.distill.losses.alm",
    "boundary_start_mask": "suite.align.boundaries",
    "byte_tokenizer": "suite.text.bytelevel",
    "check_comparable": "suite.results.comparability",
    "chunk_log_probs": "suite.likelihood.chunk_log_probs",
    "compare": "suite.stats.compare",
    "estimate": "suite.stats.compare",
    "load_results": "suite.results.importer",
    "load_runs": "suite.results.importer",
    "open_tokenizer": "suite.text.tokenizers",
    "read_item_tables": "suite.results.samples_file",
    "run_benchmark": "suite.pipelines.run_benchmark",
    "scored": "suite.results.scores",
    "token_log_probs": "suite.likelihood.log_probs",
}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'suite' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
