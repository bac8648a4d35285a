"""Makes lm-eval know our backends by name; importing this module is enough."""

from __future__ import annotations

# First: lm-eval fills its registry with its own names only while it is empty.
import lm_eval.models
from lm_eval.api.registry import model_registry

from suite.harness.engine_backend import SuiteLM
from suite.harness.ensemble_backend import SuiteEnsembleLM

__all__ = ["BACKENDS", "lm_eval"]

BACKENDS = {"suite": SuiteLM, "suite-ensemble": SuiteEnsembleLM}

for _name, _backend in BACKENDS.items():
    model_registry.register(_name, target=_backend)
