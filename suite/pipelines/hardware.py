"""What a run was computed on, for its provenance."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe_hardware(*devices: str) -> str:
    """One line on each kind of device: accelerator or processor, and number of cores."""
    return "; ".join(dict.fromkeys(_describe(device) for device in devices))


def _describe(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return f"{torch.cuda.get_device_name(device)} ({torch.cuda.device_count()} visible)"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
