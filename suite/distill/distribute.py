"""Several processes and one student: copied by DDP or cut by FSDP2, as a launcher started them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from torch import nn

from suite.distill.student import Student
from suite.errors import ConfigError
from suite.models.trunk import transformer_blocks

# The first process may write text or make a start for hours while the others wait.
_PATIENCE = timedelta(weeks=1)


@dataclass(frozen=True, eq=False)
class Distributed:
    """A student as the processes share it.

    Attributes:
        wrapped: What a step calls.
        is_sharded: Parameters are cut over the processes.
    """

    wrapped: nn.Module
    is_sharded: bool


def open_accelerator(device: str, trackers: Sequence[str] = (), folder: Path | None = None) -> Any:
    """Join the processes that `accelerate launch` or torchrun started; alone, none.

    Mixed precision and accumulation are the step's own.

    Args:
        device: From `pick_device`.
        trackers: Packages that figures are logged to.
        folder: Where those of them that write files do so.

    Raises:
        ConfigError: A tracker is not installed.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    check_trackers(trackers)
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision="no",
        log_with=list(trackers) or None,
        project_dir=folder,
        # Buffers are constants, and those of n-gram embeddings are large.
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),
            InitProcessGroupKwargs(timeout=_PATIENCE),
        ],
    )


def check_trackers(trackers: Sequence[str]) -> None:
    """Check that packages which figures are logged to are there.

    Raises:
        ConfigError: A tracker is not installed.
    """
    from accelerate.tracking import get_available_trackers

    there = {str(tracker) for tracker in get_available_trackers()}
    for tracker in trackers:
        if tracker not in there:
            raise ConfigError(
                f"training.trackers: {tracker} is not installed; run: pip install {tracker}"
            )


def distribute(
    accelerator: Any, student: Student, sharding: Literal["ddp", "fully_shard"]
) -> Distributed:
    """Share a student out.

    Args:
        accelerator: From `open_accelerator`.
        student: On this process's device.
        sharding: How.
    """
    if accelerator.num_processes == 1:
        return Distributed(student, is_sharded=False)
    if sharding == "fully_shard":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        for block in transformer_blocks(student.trunk):
            fully_shard(block, mesh=mesh)
        fully_shard(student, mesh=mesh)
        register_fsdp_forward_method(student, "read")
        return Distributed(student, is_sharded=True)
    with warnings.catch_warnings():
        # Newer versions of PyTorch call it otherwise, and older ones know this name only.
        warnings.filterwarnings("ignore", message=".broadcast_buffers. is deprecated")
        return Distributed(accelerator.prepare_model(student), is_sharded=False)
