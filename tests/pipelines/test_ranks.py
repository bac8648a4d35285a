"""One process among several: what it refuses, and what it does alone."""

from __future__ import annotations

from typing import Any

import pytest

from suite.errors import ConfigError, HarnessError
from suite.pipelines.jobs import visible_devices
from suite.pipelines.ranks import Ranks


def problem(backend: str = "suite", *, has_served_models: bool = False, jobs: int = 1) -> str:
    with pytest.raises(ConfigError) as error:
        Ranks(1, 2).check(backend, has_served_models=has_served_models, jobs=jobs)
    return str(error.value)


def test_backends_of_one_process_are_refused() -> None:
    advice = "leave it out, or start the suite without a launcher"
    assert problem("hf") == f"backend: hf is scored by one process, 2 were started; {advice}"
    assert problem(has_served_models=True) == (
        f"a model from an lm_eval source is scored by one process, 2 were started; {advice}"
    )


def test_shared_items_and_pairs_side_by_side_exclude_each_other() -> None:
    assert problem(jobs=3) == (
        "--jobs is 3, but 2 processes were started to share each pair; leave out one of the two"
    )


def test_alone_everything_is_allowed_and_decided_here() -> None:
    alone = Ranks(0, 1)
    alone.check("hf", has_served_models=True, jobs=2)
    assert alone.is_first
    assert alone.from_first(lambda: 3) == 3
    assert alone.together(lambda: 4) == 4


def test_alone_an_error_stays_what_it_was() -> None:
    def fail() -> None:
        raise HarnessError("no")

    with pytest.raises(HarnessError, match=r"^no$"):
        Ranks(0, 1).together(fail)


def test_the_place_is_taken_from_the_launchers_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    ranks = Ranks.of_environment()
    assert (ranks.rank, ranks.world_size, ranks.is_first) == (2, 4, False)


def test_an_error_of_another_process_is_raised_in_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Told:
        def all_gather_object(self, reasons: list[str | None], own: Any, group: Any) -> None:
            reasons[:] = [own, "item 3 is too long"]

    monkeypatch.setattr(Ranks, "_distributed", lambda self: Told())
    with pytest.raises(HarnessError, match=r"^item 3 is too long$"):
        Ranks(0, 2).together(lambda: 1)


def test_each_process_sees_one_of_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert visible_devices(2) == ["5", "7"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_devices(1) == ["0"]
    with pytest.raises(ConfigError) as error:
        visible_devices(3)
    assert str(error.value) == "--jobs is 3, but there are only 2 CUDA devices; lower it"


def test_processes_share_the_processor_where_there_is_no_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert visible_devices(2) == [None, None]
