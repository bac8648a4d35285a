"""One process among several: what it refuses, and what it does alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from suite.errors import ConfigError, HarnessError
from suite.pipelines.jobs import share_cores, visible_devices
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


class Meeting:
    """Stands for torch.distributed, between two threads."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=20)
        self.said: list[Any] = [None, None]

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.said[rank] = value
        self.barrier.wait()
        found = list(self.said)
        self.barrier.wait()
        return found


class Distributed:
    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.meeting = rank, meeting

    def all_gather_object(self, found: list[Any], own: Any, group: Any) -> None:
        found[:] = self.meeting.exchange(self.rank, own)

    def broadcast_object_list(self, found: list[Any], src: int, group: Any) -> None:
        found[:] = self.meeting.exchange(self.rank, list(found))[src]


def on_two_ranks(monkeypatch: pytest.MonkeyPatch, action: Callable[[Ranks], Any]) -> list[Any]:
    """What an action gives, or raises, on each of two ranks that decide together."""
    decisions = Meeting()
    monkeypatch.setattr(Ranks, "_distributed", lambda self: Distributed(self.rank, decisions))
    found: list[Any] = ["never came back"] * 2

    def act(rank: int) -> None:
        try:
            found[rank] = action(Ranks(rank, 2))
        except Exception as error:
            found[rank] = f"{type(error).__name__}: {error}"

    threads = [threading.Thread(target=act, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


class Backend:
    """A backend whose gathers wait for the other rank."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.meeting = rank, meeting

    def all_gather(self, value: Any) -> list[Any]:
        return self.meeting.exchange(self.rank, value)

    def gather_object(self, value: Any) -> list[Any]:
        return self.meeting.exchange(self.rank, value)

    def barrier(self) -> None:
        self.meeting.exchange(self.rank, None)

    def total_counts(self) -> list[Any]:
        return self.meeting.exchange(self.rank, 1)

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        return requests

    loglikelihood_rolling = generate_until = loglikelihood


STEPS = ("build_all_requests", "loglikelihood", "process_results", "aggregate")


@pytest.mark.parametrize("failing_rank", [0, 1])
@pytest.mark.parametrize("failing", [*STEPS, None])
def test_what_fails_on_one_rank_fails_the_pair_on_all_and_the_next_goes_on(
    monkeypatch: pytest.MonkeyPatch, failing: str | None, failing_rank: int
) -> None:
    gathers = Meeting()

    def run(ranks: Ranks) -> list[Any]:
        backend = Backend(ranks.rank, gathers)
        ranks.hold_together(backend)

        def step(name: str) -> None:
            if (name, ranks.rank) == (failing, failing_rank):
                raise ValueError(f"{name} of item 3")

        def evaluate() -> Any:
            step("build_all_requests")
            backend.all_gather(2)
            step("loglikelihood")
            backend.loglikelihood([1])
            backend.barrier()
            step("process_results")
            found = backend.gather_object(ranks.rank)
            step("aggregate")
            return found, backend.total_counts()

        try:
            first = ranks.together(evaluate)
        except Exception as error:
            first = f"{type(error).__name__}: {error}"
        return [first, ranks.together(lambda: "next")]

    answered = ([0, 1], [1, 1])
    expected: list[Any] = [[answered, "next"], [answered, "next"]]
    if failing is not None:
        kinds = ["HarnessError", "HarnessError"]
        kinds[failing_rank] = "ValueError"
        expected = [[f"{kind}: {failing} of item 3", "next"] for kind in kinds]
    assert on_two_ranks(monkeypatch, run) == expected


def test_what_the_first_decides_holds_on_all_and_so_does_its_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert on_two_ranks(monkeypatch, lambda ranks: ranks.from_first(lambda: ranks.rank + 5)) == [
        5,
        5,
    ]

    def fail() -> None:
        raise ValueError("no")

    assert on_two_ranks(monkeypatch, lambda ranks: ranks.from_first(fail)) == [
        "ValueError: no",
        "HarnessError: no",
    ]


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


def test_processes_on_one_processor_divide_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", given.append)
    for count in (8, 1):
        monkeypatch.setattr("torch.get_num_threads", lambda count=count: count)
        share_cores(3)
    assert given == [2, 1]
