"""All methods of composing rows, by name."""

from __future__ import annotations

from suite.transplant.contract import Method
from suite.transplant.controls import mean, random, zeros
from suite.transplant.fvt import fvt
from suite.transplant.omp import omp

TRANSPLANTS: dict[str, Method] = {
    "fvt": fvt,
    "omp": omp,
    "mean": mean,
    "zeros": zeros,
    "random": random,
}
