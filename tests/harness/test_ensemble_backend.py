"""The backend `suite-ensemble`: members with their own tokens, templates and begin tokens."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lm_eval.api.model import CachingLM
from lm_requests import (
    PAIRS,
    TEXTS,
    ensemble,
    flags,
    hugging_face,
    load,
    log_probs,
    member,
    pairs,
    prompts,
    single,
    texts,
)
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from suite.errors import ConfigError, HarnessError
from suite.harness import ensemble_scores
from suite.harness.contract import EngineOptions
from suite.harness.ensemble_backend import KeptStore, SuiteEnsembleLM
from suite.harness.opening import OpenedModel, open_model
from suite.models.loading import LoadedModel
from suite.models.tiny import write_tiny_model

RULES = ["mean_probs", "mean_log_probs", "sequence_mixture"]
ALL = [*RULES, "word_mixture", "mined"]
PROMPTS = ["Say something:", "日本", "A longer prompt than the others, by far:", "x" * 30]
LETTERS = [(f"Item {n}", chr(code)) for n in range(6) for code in range(32, 127)]
TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"
STARS = "{% for m in messages %}** {{ m.role }} **{{ m.content }}\n{% endfor %}** answer **"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Members of one vocabulary: `plain` and `other` add no begin token, `begun` adds one."""
    root = tmp_path_factory.mktemp("members")
    settings: dict[str, dict[str, Any]] = {
        "plain": {"seed": 1},
        "other": {"seed": 2},
        "begun": {"seed": 3, "adds_begin_token": True},
        "merges": {"seed": 4, "merges": True},
    }
    for name, options in settings.items():
        write_tiny_model(root / name, **options)
    return {name: root / name for name in settings}


def opened(folders: dict[str, Path], *names: str, **options: Any) -> list[OpenedModel]:
    return [member(folders[name], **options) for name in names]


def whole_rows(own: OpenedModel, context: str, continuation: str) -> torch.Tensor:
    """A member's distributions over its entries behind each token, without the engine, float64."""
    ids = own.text.encode(context) or [own.text.prefix_id]
    target = own.text.encode(continuation, False)
    with torch.no_grad():
        logits = own.member.model(torch.tensor([ids + target])).logits[0]
    return logits[len(ids) - 1 : -1].double().log_softmax(-1)


def realised(own: OpenedModel, context: str, continuation: str) -> torch.Tensor:
    target = own.text.encode(continuation, False)
    return whole_rows(own, context, continuation)[range(len(target)), target]


@pytest.mark.parametrize("combine", ALL)
@pytest.mark.parametrize("name", ["plain", "begun", "merges"])
def test_an_ensemble_of_one_is_its_member(
    folders: dict[str, Path], combine: str, name: str
) -> None:
    scored = [pair for pair in PAIRS if pair[1]] + LETTERS[:95]
    mine = ensemble(opened(folders, name), combine)
    theirs = hugging_face(folders[name], batch_size=32)
    found, wanted = mine.loglikelihood(pairs(scored)), theirs.loglikelihood(pairs(scored))
    if combine == "mined":
        # Its distributions are over regular tokens alone.
        assert all(a >= b - 1e-4 for a, b in zip(log_probs(found), log_probs(wanted), strict=True))
        return
    assert log_probs(found) == pytest.approx(log_probs(wanted), abs=1e-4)
    assert flags(found) == flags(wanted)
    rolling = mine.loglikelihood_rolling(texts())
    assert rolling == pytest.approx(theirs.loglikelihood_rolling(texts()), abs=1e-2)
    if combine != "word_mixture":
        assert mine.generate_until(prompts(PROMPTS)) == theirs.generate_until(prompts(PROMPTS))


@pytest.mark.parametrize("combine", ALL)
@pytest.mark.parametrize(("weights", "name"), [((1.0, 0.0), "plain"), ((0.0, 1.0), "begun")])
def test_a_member_with_all_the_weight_speaks_alone(
    folders: dict[str, Path], combine: str, weights: tuple[float, ...], name: str
) -> None:
    both = ensemble(opened(folders, "plain", "begun"), combine, weights=weights)
    alone = ensemble(opened(folders, name), combine)
    found = both.loglikelihood(pairs(PAIRS))
    assert log_probs(found) == pytest.approx(log_probs(alone.loglikelihood(pairs(PAIRS))), abs=1e-5)
    assert flags(found) == flags(alone.loglikelihood(pairs(PAIRS)))


def test_scores_of_each_member_are_those_of_its_own_forced_decoding(
    folders: dict[str, Path],
) -> None:
    members = opened(folders, "plain", "begun")
    for context, continuation in [("Question: 2+2?\nAnswer", " four"), ("日本語", " naïve")]:
        own = [realised(each, context, continuation) for each in members]
        for combine, expected in {
            "mean_probs": (torch.stack(own).logsumexp(0) - math.log(2)).sum(),
            "sequence_mixture": torch.stack([each.sum() for each in own]).logsumexp(0)
            - math.log(2),
        }.items():
            backend = ensemble(
                members,
                combine,
                **({"posterior_from": "continuation"} if combine == "sequence_mixture" else {}),
            )
            [(found, _)] = backend.loglikelihood(pairs([(context, continuation)]))
            assert found == pytest.approx(float(expected), abs=1e-4)


def test_log_linear_scores_follow_from_the_members_outcomes(folders: dict[str, Path]) -> None:
    members = opened(folders, "plain", "begun")
    context, continuation = "Question", " four"
    target = members[0].text.encode(continuation, False)
    total = torch.zeros(len(target), 258, dtype=torch.float64)
    for each in members:
        rows = whole_rows(each, context, continuation)
        # 256 bytes, then begin, end and padding: of these only the end is an outcome.
        others = rows[:, [256, 258]].logsumexp(1, keepdim=True)
        total += 0.5 * torch.cat([rows[:, :256], rows[:, 257:258], others], dim=1)
    expected = total.log_softmax(1)[range(len(target)), target].sum()
    [(found, _)] = ensemble(members, "mean_log_probs").loglikelihood(
        pairs([(context, continuation)])
    )
    assert found == pytest.approx(float(expected), abs=1e-4)


def test_the_posterior_learns_from_the_tokens_that_all_members_can_score(
    folders: dict[str, Path],
) -> None:
    members = opened(folders, "plain", "begun")
    context, continuation = "Question: 2+2?\nAnswer", " four"
    # `plain` adds no begin token, so nobody learns from the first byte.
    evidence = []
    for each in members:
        ids = torch.tensor([each.text.encode(context)])
        with torch.no_grad():
            rows = each.member.model(ids).logits[0].double().log_softmax(-1)
        first = 1 if each.text.encode("") == [] else 2
        places = range(first, ids.shape[1])
        evidence.append(sum(rows[place - 1, ids[0, place]] for place in places))
    before = torch.stack(evidence)
    after = before + torch.stack([realised(m, context, continuation).sum() for m in members])
    expected = after.logsumexp(0) - before.logsumexp(0)
    [(found, _)] = ensemble(members, "sequence_mixture").loglikelihood(
        pairs([(context, continuation)])
    )
    assert found == pytest.approx(float(expected), abs=1e-4)


def test_only_contents_of_a_conversation_teach_the_posterior(folders: dict[str, Path]) -> None:
    members = [member(folders["plain"], template=TURNS), member(folders["begun"], template=STARS)]
    backend = ensemble(members, "sequence_mixture")
    text = backend.apply_chat_template([{"role": "user", "content": "hello there"}])
    read = backend._scorer._reading.pairs(pairs([(text, "x")]), with_contexts=True)  # type: ignore[union-attr]
    contexts = read.requests[0].contexts
    assert contexts is not None
    for own, context in zip(members, contexts, strict=True):
        found = own.text.decode(context.ids[context.scored].tolist())
        assert found == "hello there"


def test_tokens_that_one_member_had_to_drop_teach_nobody(folders: dict[str, Path]) -> None:
    members = [member(folders["plain"], max_length=8), member(folders["begun"])]
    backend = ensemble(members, "sequence_mixture")
    read = backend._scorer._reading.pairs(pairs([("abcdefghij", "xyz")]), with_contexts=True)  # type: ignore[union-attr]
    contexts = read.requests[0].contexts
    assert contexts is not None
    assert [
        own.text.decode(c.ids[c.scored].tolist()) for own, c in zip(members, contexts, strict=True)
    ] == ["fghij"] * 2
    assert read.is_cut == [True]


def test_rolling_mixtures_of_short_contexts_add_up_by_hand(folders: dict[str, Path]) -> None:
    members = opened(folders, "plain", "begun", max_length=4)
    text, total = "abcdefghij", 0.0
    # Windows of lm-eval: the first begins with the begin token, later ones with as much text as
    # fits before their tokens.
    windows = [(None, "abcd"), ("d", "efgh"), ("fgh", "ij")]
    assert "".join(scored for _, scored in windows) == text
    for before, scored in windows:
        rows = []
        for own in members:
            start = [own.text.prefix_id] if before is None else own.text.encode(before, False)
            ids = own.text.encode(scored, False)
            with torch.no_grad():
                logits = own.member.model(torch.tensor([[*start, *ids]])).logits[0]
            places = range(len(start) - 1, len(start) + len(ids) - 1)
            found = logits.double().log_softmax(-1)
            rows.append([float(found[p, i]) for p, i in zip(places, ids, strict=True)])
        total += sum(
            math.log(0.5 * math.exp(a) + 0.5 * math.exp(b)) for a, b in zip(*rows, strict=True)
        )
    [found] = ensemble(members, "mean_probs").loglikelihood_rolling(texts([text]))
    assert found == pytest.approx(total, abs=1e-4)


def test_a_rolling_sequence_mixture_learns_across_windows(folders: dict[str, Path]) -> None:
    members = opened(folders, "plain", "begun", max_length=16)
    alone = [
        single(folders[n], max_length=16).loglikelihood_rolling(texts()) for n in ("plain", "begun")
    ]
    found = ensemble(members, "sequence_mixture").loglikelihood_rolling(texts())
    expected = np.logaddexp(*np.array(alone)) - math.log(2)
    assert found == pytest.approx(expected.tolist(), abs=1e-2)
    assert found[-1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("combine", RULES)
def test_batches_change_nothing(folders: dict[str, Path], combine: str) -> None:
    members = opened(folders, "plain", "begun")
    wide = ensemble(members, combine)
    narrow = ensemble(members, combine, options=EngineOptions(batch_size=1, token_budget=1))
    assert log_probs(narrow.loglikelihood(pairs())) == pytest.approx(
        log_probs(wide.loglikelihood(pairs())), abs=1e-4
    )
    assert narrow.loglikelihood_rolling(texts()) == pytest.approx(
        wide.loglikelihood_rolling(texts()), abs=1e-2
    )
    assert narrow.generate_until(prompts(PROMPTS)) == wide.generate_until(prompts(PROMPTS))


@pytest.mark.parametrize("combine", RULES)
def test_greedy_flags_are_those_of_greedy_generation(
    folders: dict[str, Path], combine: str
) -> None:
    backend = ensemble(opened(folders, "plain", "begun"), combine)
    found = flags(backend.loglikelihood(pairs(LETTERS)))
    firsts = backend.generate_until(
        prompts([f"Item {n}" for n in range(6)], until=[], max_gen_toks=1)
    )
    wanted = [firsts[number // 95] == letter for number, (_, letter) in enumerate(LETTERS)]
    assert found == wanted
    assert any(wanted)


def test_each_member_is_prompted_by_its_own_template(folders: dict[str, Path]) -> None:
    members = [member(folders["plain"], template=TURNS), member(folders["begun"], template=STARS)]
    backend = ensemble(members, "mean_probs")
    text = backend.apply_chat_template([{"role": "user", "content": "hello"}])
    [(found, _)] = backend.loglikelihood(pairs([(text, " x")]))
    own = [
        realised(members[0], "<user>hello\n<assistant>", " x"),
        realised(members[1], "** user **hello\n** answer **", " x"),
    ]
    expected = (torch.stack(own).logsumexp(0) - math.log(2)).sum()
    assert found == pytest.approx(float(expected), abs=1e-4)


def test_white_space_that_only_one_template_ends_in_is_not_scored(
    folders: dict[str, Path],
) -> None:
    members = [
        member(folders["plain"], template=TURNS + "{{ '\\n' }}"),
        member(folders["begun"], template=STARS),
    ]
    backend = ensemble(members, "mean_probs")
    text = backend.apply_chat_template([{"role": "user", "content": "hello"}])
    [(found, _)] = backend.loglikelihood(pairs([(text, "x")]))
    own = [
        realised(members[0], "<user>hello\n<assistant>\n", "x"),
        realised(members[1], "** user **hello\n** answer **", "x"),
    ]
    expected = (torch.stack(own).logsumexp(0) - math.log(2)).sum()
    assert found == pytest.approx(float(expected), abs=1e-4)


def test_the_name_of_the_tokenizers_follows_their_templates(folders: dict[str, Path]) -> None:
    def name(template: str) -> str:
        members = [member(folders["plain"], template=template), member(folders["begun"])]
        return ensemble(members, "mean_probs").tokenizer_name

    assert name(TURNS) == name(TURNS) != name(STARS)


def test_answers_come_back_from_lm_evals_response_cache(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    members = opened(folders, "plain", "begun")
    asked = prompts(PROMPTS)
    kept = CachingLM(ensemble(members, "mean_probs"), str(tmp_path / "answers.db"))
    first = (kept.loglikelihood(pairs()), kept.loglikelihood_rolling(texts()))
    written = kept.generate_until(asked)
    broken = ensemble(members, "mean_probs")
    broken._scorer = None  # type: ignore[assignment]
    again = CachingLM(broken, str(tmp_path / "answers.db"))
    assert [tuple(answer) for answer in again.loglikelihood(pairs())] == first[0]
    assert again.loglikelihood_rolling(texts()) == first[1]
    assert again.generate_until(asked) == written


@pytest.mark.parametrize("combine", ["mean_probs", "mined"])
def test_a_members_own_special_token_can_be_a_stop_string(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, combine: str
) -> None:
    # Each would go on with its padding token, or with a letter.
    members = (
        opened(folders, "plain", "merges")
        if combine == "mined"
        else opened(folders, "plain", "begun")
    )
    for own in members:
        hf = own.text.hf
        probs = torch.full((len(hf),), 1e-9)
        probs[[hf.convert_tokens_to_ids("x"), hf.pad_token_id]] = torch.tensor([0.4, 0.6])
        log_probs = probs.log()
        monkeypatch.setattr(
            own.member, "log_probs", lambda states, row=log_probs: row.expand(len(states), -1)
        )
    backend = ensemble(members, combine)
    assert backend.generate_until(prompts(["a"], until=["<pad>"], max_gen_toks=3)) == [""]
    assert backend.generate_until(prompts(["a"], until=["\n"], max_gen_toks=3)) == ["xxx"]


@pytest.mark.parametrize("combine", ["mean_probs", "mined"])
def test_a_kept_pass_serves_other_weights_and_rules(
    folders: dict[str, Path], combine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = opened(folders, "plain", "begun")
    store = KeptStore(with_contexts=True)
    ensemble(members, combine, store=store, weights=(1.0, 0.0)).loglikelihood(pairs())
    others: list[dict[str, Any]] = [{"combine": combine, "weights": (0.3, 0.7)}]
    if combine != "mined":
        others += [
            {"combine": "sequence_mixture"},
            {"combine": "sequence_mixture", "posterior_from": "continuation"},
            {"combine": "mean_probs", "renormalise": True},
        ]
    wanted = [log_probs(ensemble(members, **other).loglikelihood(pairs())) for other in others]
    for own in members:
        monkeypatch.setattr(own.member, "read", None)
    for other, expected in zip(others, wanted, strict=True):
        backend = ensemble(members, store=store, **other)
        totals: list[int] = []
        answered: list[None] = []
        backend.report_to(totals.append, lambda told=answered: told.append(None))
        assert log_probs(backend.loglikelihood(pairs())) == pytest.approx(expected, abs=1e-5)
        assert totals == [len(answered)] == [len(PAIRS)]


def test_ensembles_of_other_outcomes_do_not_share_a_kept_pass(folders: dict[str, Path]) -> None:
    members, store = opened(folders, "plain", "begun"), KeptStore()
    ensemble(members, "mean_probs", store=store).loglikelihood(pairs())
    found = ensemble(members, "mined", store=store).loglikelihood(pairs())
    assert found == ensemble(members, "mined").loglikelihood(pairs())


@pytest.mark.parametrize("combine", RULES)
def test_weights_fitted_to_a_members_own_text_favour_it(
    folders: dict[str, Path], combine: str
) -> None:
    # Greedy text of one member, of the characters that survive as text.
    kept = [pair for pair, is_greedy in _flagged(single(folders["plain"])) if is_greedy]
    begins = {"posterior_from": "continuation"} if combine == "sequence_mixture" else {}
    backend = ensemble(opened(folders, "plain", "other"), combine, **begins)
    fit = backend.fit_weights(kept)
    assert fit.weights[0] > 0.9
    before = backend.loglikelihood(pairs(kept))
    backend.set_weights(fit.weights)
    assert sum(log_probs(backend.loglikelihood(pairs(kept)))) > sum(log_probs(before))
    assert backend.get_model_info()["ensemble"]["weights"] == list(fit.weights)


def _flagged(backend: Any) -> list[tuple[tuple[str, str], bool]]:
    many = [(f"{n} items", chr(code)) for n in range(40) for code in range(32, 127)]
    return list(zip(many, flags(backend.loglikelihood(pairs(many))), strict=True))


def test_a_fit_reads_every_prompt_once(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = opened(folders, "plain", "begun")
    backend = ensemble(members, "sequence_mixture")
    counts = []
    for own in members:
        whole = own.member.read
        monkeypatch.setattr(
            own.member,
            "read",
            lambda ids, mask, past, whole=whole: (
                counts.append(int(mask.sum())) or whole(ids, mask, past)
            ),
        )
    backend.loglikelihood(pairs([("a long prompt", " x")]))
    num_scored = sum(counts)
    backend.fit_weights([("a long prompt", " x")])
    assert sum(counts) == 2 * num_scored


def test_a_log_linear_fit_that_memory_cannot_hold_is_refused(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensemble_scores, "_MAX_FITTED", 258 * 2 * 10)
    backend = ensemble(opened(folders, "plain", "begun"), "mean_log_probs")
    assert backend.fit_weights([("a", "x" * 10)]).num_items == 10
    with pytest.raises(ConfigError) as error:
        backend.fit_weights([("a", "x" * 11)])
    assert str(error.value) == (
        "weights.fit: mean_log_probs is fitted to whole distributions, of which 11 tokens are more"
        " than the 10 that are held in memory; lower items"
    )


def test_word_mixtures_are_fitted_to_pieces(folders: dict[str, Path]) -> None:
    backend = ensemble(opened(folders, "plain", "merges"), "word_mixture")
    fit = backend.fit_weights([pair for pair in PAIRS if pair[1]])
    assert fit.converged
    assert sum(fit.weights) == pytest.approx(1.0)


def test_a_member_mixed_with_itself_over_words_is_that_member(folders: dict[str, Path]) -> None:
    twice = [member(folders["merges"]), member(folders["merges"], "twin")]
    found = ensemble(twice, "word_mixture").loglikelihood(pairs())
    wanted = single(folders["merges"]).loglikelihood(pairs())
    assert log_probs(found) == pytest.approx(log_probs(wanted), abs=1e-9)
    assert flags(found) == flags(wanted)


def test_word_mixtures_of_other_vocabularies_lie_between_bounds(folders: dict[str, Path]) -> None:
    scored = [pair for pair in PAIRS if pair[1]]
    found = ensemble(opened(folders, "plain", "merges"), "word_mixture").loglikelihood(
        pairs([("a", " one"), *scored])
    )
    assert all(math.isfinite(value) and value < 0 for value in log_probs(found))
    # One piece only: nothing is conditioned on a boundary.
    own = [float(realised(each, "a", " one").sum()) for each in opened(folders, "plain", "merges")]
    assert found[0][0] == pytest.approx(np.logaddexp(*own) - math.log(2), abs=1e-4)


def test_mined_members_are_fed_the_tokens_most_like_the_first_members(
    folders: dict[str, Path],
) -> None:
    backend = ensemble(opened(folders, "plain", "merges"), "mined")
    [(found, _)] = backend.loglikelihood(pairs([("ab", "the")]))
    plain, merges = opened(folders, "plain", "merges")
    bytes_of = [plain.text.encode(letter, False)[0] for letter in "the"]
    context = merges.text.encode("ab")
    with torch.no_grad():
        logits = merges.member.model(torch.tensor([[*context, *bytes_of]])).logits[0].double()
    end = merges.text.end_ids[0]
    rows = logits[len(context) - 1 : -1]
    rows = rows[:, [*range(256), end]].log_softmax(-1)
    first = whole_rows(plain, "ab", "the")[:, [*range(256), 257]].log_softmax(-1)
    places = (torch.arange(3), torch.tensor(bytes_of))
    expected = (torch.logaddexp(rows[places], first[places]) - math.log(2)).sum()
    assert found == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize(
    ("context", "read"), [("Answer:", "Answer"), ("Answer: ", "Answer"), ("", "<begin>")]
)
def test_mined_members_read_the_prompt_up_to_where_the_first_member_is_scored(
    folders: dict[str, Path], context: str, read: str
) -> None:
    # The colon and the space behind it are one token of the first member.
    backend = ensemble(opened(folders, "merges", "plain"), "mined")
    request = pairs([(context, " the")])
    reading = backend._scorer._reading.pairs(request, with_contexts=False)  # type: ignore[union-attr]
    [asked] = reading.requests
    plain = member(folders["plain"])
    place = asked.continuations[1].scored[0]
    assert plain.text.hf.decode(asked.continuations[1].ids[:place]) == read


def test_results_say_who_was_combined_and_how(folders: dict[str, Path]) -> None:
    members = opened(folders, "plain", "begun")
    backend = ensemble(members, "mean_probs", weights=(0.25, 0.75))
    backend.loglikelihood(pairs([("Question", " four")]))
    info = backend.get_model_info()
    assert info["name"] == "e"
    facts = info["ensemble"]
    assert [own["name"] for own in facts["members"]] == ["plain", "begun"]
    assert (facts["combine"], facts["weights"]) == ("mean_probs", [0.25, 0.75])
    assert facts["num_outcomes"] == 258
    for own in members:
        # Begin and padding token; the end is an outcome of all.
        mass = whole_rows(own, "Question", " four")[:, [256, 258]].exp().sum(1)
        dropped = facts["dropped_mass"][own.member.name]
        assert dropped["mean"] == pytest.approx(float(mass.mean()), abs=1e-6)
        assert dropped["max"] == pytest.approx(float(mass.max()), abs=1e-6)


def test_an_ensemble_opens_from_its_yaml(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folders["plain"].parent / "pair.yaml"
    entries = [{"name": n, "source": {"path": n}, "dtype": "float32"} for n in ("plain", "begun")]
    file.write_text(yaml.safe_dump({"members": entries, "combine": "sequence_mixture"}))
    monkeypatch.chdir(tmp_path)
    backend = SuiteEnsembleLM.create_from_arg_string(
        f"path={file}", {"batch_size": 2, "device": "cpu"}
    )
    expected = ensemble(opened(folders, "plain", "begun"), "sequence_mixture")
    assert backend.loglikelihood(pairs()) == expected.loglikelihood(pairs())
    assert backend.get_model_info()["name"] == "pair"
    again = SuiteEnsembleLM.create_from_arg_obj({"path": str(file)}, {"device": "cpu"})
    assert again.loglikelihood(pairs()) == expected.loglikelihood(pairs())


def test_every_path_of_a_yaml_starts_at_its_folder(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folders["plain"].parent / "other.yaml"
    entry = {"name": "a", "source": {"path": "plain"}, "tokenizer": "begun", "dtype": "float32"}
    file.write_text(yaml.safe_dump({"members": [entry], "combine": "mean_probs"}))
    monkeypatch.chdir(tmp_path)
    backend = SuiteEnsembleLM(path=str(file), device="cpu")
    assert backend.tokenizer.encode("") == [backend.tokenizer.bos_token_id]


def test_weights_by_task_name_the_task_they_lack(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError) as error:
        ensemble(opened(folders, "plain"), "mean_probs", weights={"another": [1.0]})
    assert str(error.value) == (
        "ensemble 'e': there are weights by task, and none for 'task'; add them"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"members": ["plain"]},
            "{file}: member 'plain' is only a name; give it name and source, as in a recipe",
        ),
        (
            {"weights": {"fit": {}}},
            "{file}: weights are uniform or a list here; weights by task and fitted ones need a"
            " recipe with `suite run-benchmark`",
        ),
        (
            {"combine": "majority_vote"},
            "{file}: majority_vote combines items that its members have answered; use it in a"
            " recipe with `suite run-benchmark`",
        ),
        (
            {"weights": [0.9]},
            "{file}: weights: they sum to 0.9; weights are at least 0 and sum to 1",
        ),
    ],
)
def test_a_yaml_that_needs_a_recipe_is_refused(
    folders: dict[str, Path], tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    file = tmp_path / "e.yaml"
    source = {"path": str(folders["plain"])}
    written = {"members": [{"name": "plain", "source": source}], "combine": "mean_probs"}
    file.write_text(yaml.safe_dump(written | changes))
    with pytest.raises(ConfigError) as error:
        SuiteEnsembleLM(path=str(file))
    assert str(error.value) == sentence.format(file=file)


def test_members_of_other_vocabularies_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError) as error:
        ensemble(opened(folders, "plain", "merges"), "mean_probs")
    assert str(error.value) == (
        "plain and merges: their vocabularies differ (0 entries are only in plain's, 5 only in"
        " merges's); give one the other's with `suite transplant`, or combine them by word_mixture"
        " or mined"
    )


def test_a_token_that_is_not_shared_names_item_and_member(folders: dict[str, Path]) -> None:
    backend = ensemble(opened(folders, "plain", "begun"), "mean_probs")
    with pytest.raises(HarnessError) as error:
        backend.loglikelihood(pairs([("fine", "x"), ("a", "b<pad>")]))
    assert str(error.value) == (
        "item 1 of task 'task': 'plain' reads a token in it that the members do not share,"
        " '<pad>'; leave the item out"
    )


def test_the_end_of_a_text_inside_it_is_no_token_of_mined_members(
    folders: dict[str, Path],
) -> None:
    backend = ensemble(opened(folders, "plain", "merges"), "mined")
    with pytest.raises(HarnessError) as error:
        backend.loglikelihood(pairs([("a", "b<end>c")]))
    assert str(error.value) == (
        "item 0 of task 'task': 'plain' reads a token in it that the members do not share,"
        " '<end>'; leave the item out"
    )


def test_members_that_split_a_text_differently_name_item_and_member(
    folders: dict[str, Path],
) -> None:
    loaded = load(folders["merges"])
    parts = json.loads(loaded.tokenizer.backend_tokenizer.to_str())
    parts["model"]["merges"] = []
    hf = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)),
        bos_token="<begin>",
        eos_token="<end>",
    )
    unjoined = open_model(LoadedModel(loaded.model, hf), name="unjoined")
    backend = ensemble([member(folders["merges"]), unjoined], "mean_probs")
    with pytest.raises(HarnessError) as error:
        backend.loglikelihood(pairs([("fine", "x"), ("a", " the")]))
    assert str(error.value) == (
        "item 1 of task 'task': 'unjoined' reads it as 4 tokens that are not the 2 of 'merges';"
        " combine them by word_mixture or mined, or give one the other's tokenizer with `suite"
        " transplant`"
    )


def test_word_mixtures_do_not_generate(folders: dict[str, Path]) -> None:
    backend = ensemble(opened(folders, "plain", "merges"), "word_mixture")
    with pytest.raises(ConfigError) as error:
        backend.generate_until(prompts(["a"]))
    assert str(error.value) == (
        "ensemble 'e': word_mixture scores given text and cannot generate; score it on likelihood"
        " tasks only, or combine by mined"
    )


def test_reasoning_cannot_end_at_a_token_of_one_member(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError) as error:
        ensemble(opened(folders, "plain"), "mean_probs", options=EngineOptions(strip_reasoning=7))
    assert str(error.value) == (
        "ensemble 'e': strip_reasoning is the token id 7, but members have ids of their own; give"
        " the string"
    )


@pytest.mark.parametrize("combine", ALL)
def test_logits_that_are_not_numbers_name_member_and_item(
    folders: dict[str, Path], combine: str
) -> None:
    loaded = load(folders["begun"])
    spoilt = LoadedModel(copy.deepcopy(loaded.model), loaded.tokenizer)
    broken = open_model(spoilt, name="broken")
    with torch.no_grad():
        embedding = spoilt.model.get_input_embeddings().weight
        embedding[loaded.tokenizer.convert_tokens_to_ids("Q")] = float("nan")
    backend = ensemble([member(folders["plain"]), broken], combine)
    with pytest.raises(HarnessError) as error:
        backend.loglikelihood(pairs([("fine", "b"), ("a Q", "b")]))
    assert str(error.value) == (
        "member 'broken': log-probabilities of item 1 of task 'task' are not numbers (NaN); try"
        " dtype: float32"
    )


def test_texts_without_tokens_have_no_windows(folders: dict[str, Path]) -> None:
    for combine in ALL:
        backend = ensemble(opened(folders, "plain", "begun"), combine)
        assert backend.loglikelihood_rolling(texts([""])) == [0.0]
        assert len(backend.loglikelihood_rolling(texts())) == len(TEXTS)
