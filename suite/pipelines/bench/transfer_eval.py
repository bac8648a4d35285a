"""`suite bench transfer`: what a transfer gained on held-out documents, in bits per byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from suite.config import content_hash, parse_config
from suite.engine.members import Member
from suite.errors import ConfigError
from suite.files import write_atomically
from suite.models.entry import ModelConfig
from suite.models.fingerprint import tokenizer_fingerprint, weights_fingerprint
from suite.models.loading import Placement, load_model, place, release_memory
from suite.models.resolve import ResolvedModel, resolve
from suite.models.sources import parse_source
from suite.models.tokenizers import open_source
from suite.pipelines.bench.record import open_folder, write_record
from suite.pipelines.bench.transfer_eval_scores import (
    DocumentScore,
    HeldOutDocument,
    ScoreFile,
    check_same_tokens,
    mixed,
    passage_log_probs,
    read_documents,
    reading_member,
)
from suite.pipelines.bench.transfer_eval_table import (
    MIXTURE,
    DocumentRow,
    render_transfer,
    summarise,
)
from suite.pipelines.hardware import describe_hardware
from suite.pipelines.plan import versions
from suite.pipelines.run_log import noise_to
from suite.text.tokenizers import OpenedTokenizer

ROLES = ("original", "start", "trained", "member")
# Options and the least they may be; UTF-8 has no longer character than 4 bytes.
_LEAST = {"kib": 1, "passage_bytes": 4}


@dataclass(frozen=True, kw_only=True)
class TransferBench:
    """What is measured; models are sources, as on the command line.

    Attributes:
        data: A folder of text files that nobody trained on; each is a document.
        original: The model before anything was changed.
        start: The model with the new vocabulary, before training.
        trained: The same after training.
        member: Another model with the new vocabulary, to mix with the trained one; None for none.
        kib: The first so many KiB of each document are read.
        passage_bytes: Most bytes that are read at once, behind a begin token.
        dtype: Of the weights.
        device: Where models run.
    """

    data: Path
    original: str
    start: str
    trained: str
    member: str | None = None
    kib: int = 64
    passage_bytes: int = 2048
    dtype: str = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                option = _option(name)
                raise ConfigError(f"{option} is {getattr(self, name)}, expected at least {least}")

    @property
    def command(self) -> str:
        """The call that repeats it."""
        given = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        options = (f"{_option(name)} {value}" for name, value in given.items())
        return " ".join(["suite bench transfer", *options])

    @property
    def sources(self) -> dict[str, str]:
        """The models by role."""
        return {role: source for role in ROLES if (source := getattr(self, role)) is not None}


@dataclass(frozen=True)
class TransferRecord:
    """The tables in Markdown, and the files with the rows and with the tables."""

    markdown: str
    files: tuple[Path, Path]


def record_transfer(
    bench: TransferBench, output: Path, say: Callable[[str], None]
) -> TransferRecord:
    """Measure, and write `transfer.json` and `transfer.md` in a folder.

    What every model says about every token is kept there in `transfer.scores.jsonl`, document by
    document: a call that is repeated goes on where it was stopped, and models that have not
    changed are not read again.

    Args:
        bench: What is measured.
        output: The folder.
        say: Called with a line at each document.

    Raises:
        SuiteError: An option is wrong, a model cannot be had or read, the member has another
            vocabulary, or the folder cannot be written.
    """
    documents = read_documents(bench.data, bench.kib * 1024, bench.passage_bytes)
    folder = open_folder(output)
    log = folder / "transfer.log"
    with noise_to(log):
        models = [_Model.find(bench, role) for role in bench.sources]
    if bench.member is not None:
        check_same_tokens((models[-2].tokenizer, models[-1].tokenizer), documents)
    file = ScoreFile(folder / "transfer.scores.jsonl")
    found = {model.role: _scores(model, documents, file, say, log) for model in models}
    if bench.member is not None:
        pairs = zip(found["trained"], found["member"], strict=True)
        found[MIXTURE] = [replace(pair[0], log_probs=mixed(pair)) for pair in pairs]
    rows = [
        DocumentRow(role, document.name, document.num_bytes, len(own.log_probs), own.nats)
        for role, scores in found.items()
        for document, own in zip(documents, scores, strict=True)
    ]
    device = models[0].placement.device
    rows_file = write_record(folder / "transfer.json", [summarise(rows), *rows], device=device)
    provenance = {
        **{model.role: model.description for model in models},
        "Text": f"{len(documents)} documents of {bench.data.name}, the first {bench.kib} KiB of"
        f" each, {sum(document.num_bytes for document in documents):,} bytes",
        "Hardware": describe_hardware(device),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "Repeat with": bench.command,
    }
    markdown = render_transfer(rows, provenance)
    write_atomically(folder / "transfer.md", markdown)
    return TransferRecord(markdown, (rows_file, folder / "transfer.md"))


@dataclass(frozen=True, eq=False)
class _Model:
    """A model that was found, not yet loaded."""

    role: str
    entry: ModelConfig
    resolved: ResolvedModel
    placement: Placement
    tokenizer: OpenedTokenizer

    @classmethod
    def find(cls, bench: TransferBench, role: str) -> _Model:
        """Fetch what a role names and open its tokenizer."""
        source = parse_source(bench.sources[role], _option(role))
        data = {"name": role, "source": source, "dtype": bench.dtype, "device": bench.device}
        entry = parse_config(ModelConfig, data, _option(role))
        resolved = resolve(entry)
        tokenizer = open_source(bench.sources[role], _option(role))
        return cls(role, entry, resolved, place(entry, resolved), tokenizer)

    @property
    def description(self) -> str:
        """Its source, its weights and how it was read."""
        return f"{self.entry.source}, {self.resolved.weights}, read in {self.placement.dtype}"

    def key(self) -> str:
        """Says whether two calls read the same model in the same way."""
        folders = (
            weights_fingerprint(self.resolved.folder),
            tokenizer_fingerprint(self.resolved.tokenizer_folder),
        )
        return content_hash([folders, self.placement.dtype, self.placement.device])


def _scores(
    model: _Model,
    documents: Sequence[HeldOutDocument],
    file: ScoreFile,
    say: Callable[[str], None],
    log: Path,
) -> list[DocumentScore]:
    """What a model says about all documents; it is loaded only if some of that is missing."""
    key = model.key()
    member: Member | None = None
    for number, document in enumerate(documents, 1):
        if file.find(key, document.key) is not None:
            continue
        say(f"{model.role}: {document.name}, {number} of {len(documents)}")
        if member is None:
            with noise_to(log):
                loaded = load_model(model.entry, model.resolved, model.placement)
                member = reading_member(loaded.model, model.tokenizer)
            del loaded
        values = passage_log_probs(member, model.tokenizer, document.passages)
        file.add(DocumentScore(key, document.key, values), label=f"{model.role}, {document.name}")
    del member
    release_memory()
    found = [file.find(key, document.key) for document in documents]
    return [score for score in found if score is not None]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
