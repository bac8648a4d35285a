"""The committed measurements say what the documents claim of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from scipy.stats import binomtest

REFERENCE = Path(__file__).parents[1] / "reports" / "reference"
CHANCE = {"suite_contains_letter": 1 / 2}
MINIMUM_INFORMATIVE_TASKS = 3
MINIMUM_UNSATURATED_TASKS = 4


def rows(folder: str) -> list[dict[str, str]]:
    with (REFERENCE / folder / "table.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def interval(row: dict[str, str]) -> tuple[float, float]:
    """The 95 % Wilson interval of a share of items."""
    items = int(row["n"])
    found = binomtest(round(float(row["value"]) * items), items).proportion_ci(method="wilson")
    return found.low, found.high


def test_tasks_are_above_chance_with_their_question_and_at_chance_without() -> None:
    by_label = {row["label"]: row for row in rows("mini-suite")}
    informative = []
    for label, row in by_label.items():
        control = by_label.get(f"{label}_choices_only")
        if control is None:
            continue
        chance = CHANCE.get(label, 1 / 4)
        low, _ = interval(row)
        control_low, control_high = interval(control)
        assert control_low <= chance <= control_high, f"{label}: the choices give the answer away"
        if low > chance:
            informative.append(label)
    assert len(informative) >= MINIMUM_INFORMATIVE_TASKS


@pytest.mark.parametrize("model", ["SmolLM2-135M-Instruct", "Gemma-3-270M"])
def test_tasks_are_not_solved_already(model: str) -> None:
    found = [row for row in rows("quickstart") if row["model"] == model]
    shares = [float(row["value"]) for row in found if row["metric"] in ("acc", "exact_match")]
    assert sum(share < 0.95 for share in shares) >= MINIMUM_UNSATURATED_TASKS


def test_our_backend_equals_upstreams_on_real_models() -> None:
    parity = json.loads((REFERENCE / "hf-parity" / "parity.json").read_text(encoding="utf-8"))
    shown_only = ("loglikelihood_rolling", "")
    compared = [
        row for row in parity["rows"] if (row["output_type"], row["upstream_options"]) != shown_only
    ]
    assert {row["output_type"] for row in compared} == {
        "generate_until",
        "multiple_choice",
        "loglikelihood_rolling",
    }
    for row in compared:
        assert row["num_different"] == 0, row["task"]
        assert row["upstream_scores"] == row["our_scores"]


def test_the_recorded_quickstart_took_less_than_twenty_minutes() -> None:
    record = json.loads((REFERENCE / "quickstart" / "timing.json").read_text(encoding="utf-8"))
    [row] = record["rows"]
    assert row["recipe"] == "quickstart"
    assert row["seconds"] < 1200


@pytest.mark.parametrize("backend", ["suite", "suite-ensemble"])
def test_the_engine_agrees_with_upstream_on_real_models(backend: str) -> None:
    parity = json.loads((REFERENCE / "conformance" / "parity.json").read_text(encoding="utf-8"))
    shown_only = ("loglikelihood_rolling", "")
    compared = [
        row
        for row in parity["rows"]
        if row["backend"] == backend and (row["output_type"], row["upstream_options"]) != shown_only
    ]
    tasks = {row["task"].partition("_")[0] for row in compared}
    assert tasks == {"gsm8k", "blimp", "xcopa", "suite"}
    for row in compared:
        if row["output_type"] != "loglikelihood_rolling":
            assert row["upstream_scores"] == row["our_scores"]
        if row["output_type"] == "generate_until":
            assert row["num_different"] == 0
        else:
            assert row["max_difference"] < 1e-3, row["task"]


def test_the_engine_s_measured_answers_are_lm_eval_s_and_its_memory_is_bounded() -> None:
    record = json.loads((REFERENCE / "scoring" / "scoring.json").read_text(encoding="utf-8"))
    speeds = [row for row in record["rows"] if "hf_seconds" in row]
    assert {row["group"] for row in speeds} == {
        "four choices",
        "5-shot choices",
        "one-token choices",
        "generation",
    }
    for row in speeds:
        assert row["num_different"] == 0, row["task"]
        if row["group"] != "generation":
            assert row["max_difference"] < 1e-4
        if row["group"] in ("one-token choices", "generation"):
            assert row["hf_seconds"] / row["suite_seconds"] >= 0.95
    for row in record["rows"]:
        if "alone_seconds" in row:
            assert row["seconds"] / (row["num_members"] * row["alone_seconds"]) <= 1.1
        if "peak_bytes" in row:
            assert row["peak_bytes"] < 4e9


def test_the_recorded_alignment_is_fast_and_small() -> None:
    record = json.loads((REFERENCE / "bench" / "align.json").read_text(encoding="utf-8"))
    by_name = {(row["what"], row.get("against")): row for row in record["rows"]}
    novel = by_name["align_chunks", "two pointers over lists"]
    assert novel["megabytes_per_second"] >= 40
    assert novel["ratio"] <= 1 / 8
    assert by_name["align_chunks, one document a call", None]["megabytes_per_second"] >= 15
    assert by_name["longest_suffix_ids", None]["megabytes_per_second"] >= 5
    checked = "encoding both sides, every byte checked, one batch"
    assert by_name["encoding both sides and aligning, one batch", checked]["ratio"] <= 1.2
    assert by_name["align_chunks alone", None]["bytes_per_byte"] <= 40
    whole = by_name["suite align, whole process", None]
    assert whole["num_bytes"] == 10_000_000
    assert whole["peak_bytes"] < 2.5e9


def test_the_recorded_log_probs_are_small_and_claim_nothing_of_a_gpu() -> None:
    record = json.loads((REFERENCE / "loss" / "loss.json").read_text(encoding="utf-8"))
    measured = {
        (row["device"], row["implementation"], row["outputs"]): row
        for row in record["rows"]
        if row["not_measured"] is None
    }
    for outputs in ("token, boundary", "token"):
        row = measured["cpu", "blockwise", outputs]
        sizes = (row["num_tokens"], row["hidden_size"], row["vocab_size"], row["dtype"])
        assert sizes == (4096, 576, 49152, "float32")
        assert row["num_runs"] == 5
        assert row["memory_ratio_to_plain"] <= 0.15
        assert row["ratio_to_plain"] <= 1.4
    assert {device for device, _, _ in measured} == {"cpu"}
    others = [row for row in record["rows"] if row["device"] == "cuda"]
    assert {(row["hidden_size"], row["vocab_size"]) for row in others} == {
        (4096, 128256),
        (2304, 256000),
    }
    assert {row["seconds"] for row in others} == {None}


def held_out(run: str) -> list[dict[str, float]]:
    text = (REFERENCE / "training" / run / "log.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if line["kind"] == "held_out"]


def test_a_real_transfer_closes_half_of_the_gap_on_passages_like_those_it_learnt() -> None:
    run = "gemma3-270m-to-smollm2"
    first, *_, last = held_out(run)
    teacher = first["teacher_bits_per_byte"]
    gap = first["student_bits_per_byte"] - teacher
    assert (first["student_bits_per_byte"] - last["student_bits_per_byte"]) / gap >= 0.5
    assert last["mean_distance"] < first["mean_distance"]
    log = (REFERENCE / "training" / run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in log if '"kind": "step"' in line]
    assert steps[-1]["num_student_tokens"] <= 100_000


def test_a_real_transfer_closes_half_of_the_gap_on_novels_and_mixes_well() -> None:
    path = REFERENCE / "training" / "gemma3-270m-to-smollm2" / "transfer.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    nats: dict[str, dict[str, float]] = {}
    for row in rows:
        if "document" in row:
            nats.setdefault(row["document"], {})[row["model"]] = row["nats"]
    assert len(nats) == 24
    total = {name: sum(found[name] for found in nats.values()) for name in nats[min(nats)]}
    gap = total["start"] - total["original"]
    assert (total["start"] - total["trained"]) / gap >= 0.5
    assert all(
        found["trained + member"] < min(found["trained"], found["member"])
        for found in nats.values()
    )


def test_a_real_byte_model_is_nearer_to_its_teacher_at_every_measurement() -> None:
    figures = held_out("smollm2-to-bytes")
    for name in ("student_bits_per_byte", "mean_distance"):
        values = [line[name] for line in figures]
        assert values == sorted(values, reverse=True)


def test_the_table_of_real_transfers_is_that_of_their_logs() -> None:
    shown = (REFERENCE / "training" / "README.md").read_text(encoding="utf-8")
    for run in ("gemma3-270m-to-smollm2", "smollm2-to-bytes"):
        for line in held_out(run):
            cells = (line["student_bits_per_byte"], line["mean_distance"], line["rank_correlation"])
            assert " | ".join(f"{value:.4f}" for value in cells) in shown


@pytest.mark.parametrize("recipe", ["bytes-tiny", "subword-tiny"])
def test_alm_teaches_what_its_controls_do_not(recipe: str) -> None:
    path = REFERENCE / "learning" / recipe / "learning.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    compared = [row for row in rows if "control" in row]
    last = max(row["step"] for row in compared)
    final = [row for row in compared if row["step"] == last]
    pairs = {(row["seed"], row["control"]) for row in final}
    assert pairs == {(seed, name) for seed in (0, 1, 2) for name in ("sft", "alm_permuted")}
    assert all(row["distance_ratio"] <= 0.8 and row["rank_gain"] > 0 for row in final)


def test_a_training_step_with_alm_costs_little_more_than_one_without() -> None:
    path = REFERENCE / "training" / "step" / "train.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    limited = {row["name"]: row for row in rows if row.get("limit") is not None}
    assert [row["limit"] for row in limited.values()] == [1.15, 1.1, 1.1]
    assert all(row["value"] <= row["limit"] for row in limited.values())


def measured(folder: str, name: str) -> list[dict]:
    return json.loads((REFERENCE / folder / name).read_text(encoding="utf-8"))["rows"]


def test_the_recorded_intervals_cover_what_they_promise() -> None:
    found = [row for row in measured("statistics", "statistics.json") if "coverage" in row]
    wilson = [row for row in found if row["interval"] == "Wilson"]
    assert {row["n"] for row in wilson} == {50, 200, 1_000}
    assert {row["truth"] for row in wilson} == {"p = 0.02", "p = 0.5", "p = 0.98"}
    assert min(row["coverage"] for row in wilson) >= 0.92
    simulated = [row for row in found if row["interval"] == "t" or "bootstrap" in row["interval"]]
    assert len(simulated) >= 16
    assert all(0.93 <= row["coverage"] <= 0.97 for row in simulated)


def test_the_recorded_gate_seldom_cries_wolf_and_finds_what_it_says_it_finds() -> None:
    found = measured("statistics", "statistics.json")
    gate = [row for row in found if "rule" in row]
    of_alarms = [row for row in gate if row["measure"] == "false alarms"]
    alarms = {(row["rule"], row["num_tasks"]): row for row in of_alarms}
    assert {row["num_histories"] for row in alarms.values()} == {2_000}
    gates = [row for (rule, _), row in alarms.items() if rule.startswith("gate")]
    assert len(gates) == 6
    assert max(row["high"] for row in gates) <= 0.06
    assert alarms["best run so far", 1]["low"] > 0.9
    power = [row for row in gate if row["look"] is not None]
    assert {row["look"] for row in power} == {1, 5, 20}
    assert min(row["high"] for row in power) >= 0.8


def test_the_recorded_report_of_twenty_models_is_quick_and_small() -> None:
    by_command = {row["command"]: row for row in measured("report-scale", "report.json")}
    report = by_command["suite report, with index"]
    assert report["num_models"] == 20
    assert report["seconds"] < 60
    assert report["peak_bytes"] < 2e9
    assert by_command["suite track index --rebuild"]["lines_a_second"] >= 20_000
