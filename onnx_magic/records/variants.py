"""What is known of a variant: what was done to which graph, what stayed in float, and what its answers are worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class KeptLayer:
    """A layer that a variant computes as its parent does.

    Args:
        node: The node's name in the parent's graph.
        operator: Its operator.
        layer: The PyTorch module it came from; empty where the graph does not tell.
        reason: Why it was left: `excluded`, `overflow`, `worst`, `no kernel`, `not taken`.
        noise: What quantising it adds, as a share of the signal's energy; `None` where it was not measured.
        graph: Which graph it stands in.
    """

    node: str
    operator: str
    layer: str
    reason: str
    noise: float | None = None
    graph: str = "model"

    @property
    def name(self) -> str:
        """The layer as a person knows it: the module's path, else the node's name."""
        return self.layer or self.node


@dataclass(frozen=True)
class Answers:
    """How the answers on the user's own data compare with the reference's, ties not forgiven.

    Args:
        kind: `label`, `token-label`, `span`, ...; `cosine` where the task has no answer to count.
        same: How many answers are the same. For `cosine`: how many samples reach the tolerance's cosine.
        total: How many there are.
        cosine: Mean cosine of the samples' outputs (of sentence embeddings: mean-pooled).
        worst: Smallest cosine of a sample.
        data: Where the samples came from: `data`, `calibration`.
        expected: The share to be expected the same on other samples of the kind (`engine.variants.foreseeing`); `None`
            where the task has no answer to count.
        drift: Root mean square of the first output's difference, as a share of that output's own.
    """

    kind: str
    same: int
    total: int
    cosine: float
    worst: float
    data: str = "data"
    expected: float | None = None
    drift: float | None = None

    @property
    def changed(self) -> int:
        """How many answers are others."""
        return self.total - self.same

    @property
    def rate(self) -> float:
        """The share of answers that are the same; the mean cosine where there is no answer to count."""
        return self.cosine if self.kind == "cosine" else self.same / max(self.total, 1)

    def __str__(self) -> str:
        """`label: 3 of 1000 changed`, or `cosine 0.9921`."""
        if self.kind == "cosine":
            return f"cosine {self.cosine:.4f} (worst {self.worst:.4f}) over {self.total}"
        return f"{self.kind}: {self.changed} of {self.total} changed"


@dataclass(frozen=True)
class GreedyTokens:
    """How many greedy tokens of a variant are those of the graphs it was made from, which give PyTorch's.

    Args:
        same: Tokens before the first that is another, over all prompts.
        total: Tokens that were generated.
        prompts: How many prompts.
        each: Tokens after each.
    """

    same: int
    total: int
    prompts: int
    each: int

    def __str__(self) -> str:
        """`188 of 200 greedy tokens are the same (40 after each of 5 prompts, up to the first other one)`."""
        how = f"{self.each} after each of {self.prompts} prompts, up to the first other one"
        return f"{self.same} of {self.total} greedy tokens are the same ({how})"


@dataclass(frozen=True)
class GraphChange:
    """One graph before and after: operators by count, bytes on disk."""

    before: Mapping[str, int]
    after: Mapping[str, int]
    size_before: int = 0
    size_after: int = 0

    @property
    def changed(self) -> bool:
        """Whether any operator's count differs."""
        return dict(self.before) != dict(self.after)

    @property
    def rows(self) -> tuple[tuple[str, int, int], ...]:
        """(operator, before, after) of those whose count differs, the largest change first."""
        names = sorted({*self.before, *self.after})
        found = [(name, self.before.get(name, 0), self.after.get(name, 0)) for name in names]
        return tuple(sorted((row for row in found if row[1] != row[2]), key=lambda r: (-abs(r[2] - r[1]), r[0])))


@dataclass(frozen=True)
class VariantRecord:
    """What `exported.quantize` or `exported.optimize` did, as the manifest keeps it.

    Args:
        name: The variant: `int8`, `optimized`, ...
        title: What it is, in a few words: `int8, dynamic`.
        parent: The variant it was made from; `None` for the plain export.
        fingerprint: Hash of the parent's files as they were then.
        steps: What was done, a sentence each.
        options: Options that were given or decided: `{"per_channel": True}`.
        changes: What became of each graph.
        kept: Layers that stayed as they were.
        tolerance: What the verdict asked for: `{"cosine": 0.95, "drift": 0.5}`; empty: the export's own tolerances.
        sizes: Root mean square of each float output over the shapes of the verdict: what its drift is a share of.
        against: What it was held against: `PyTorch`, or `the float graph`.
        answers: How the answers on the user's data compare; `None` when no data was given.
        tokens: How many greedy tokens are the same; `None` of a model that does not generate.
        accuracy: The agreement that was asked for.
        provider: The execution provider it needs; `None` when it runs on all.
        stale: The export's weights are others by now.
    """

    name: str
    title: str
    parent: str | None = None
    fingerprint: str = ""
    steps: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, GraphChange] = field(default_factory=dict)
    kept: tuple[KeptLayer, ...] = ()
    tolerance: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)
    against: str = "PyTorch"
    answers: Answers | None = None
    tokens: GreedyTokens | None = None
    accuracy: float | None = None
    provider: str | None = None
    stale: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything became of any graph."""
        return any(change.changed for change in self.changes.values())

    def to_json(self) -> dict[str, Any]:
        """A plain dict that `json.dumps` takes."""
        record = dataclasses.asdict(self)
        record["steps"], record["kept"] = list(self.steps), [dataclasses.asdict(layer) for layer in self.kept]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> VariantRecord:
        """Read what `to_json` wrote; keys of other kinds (`graphs`, `validated`) are left out.

        Raises:
            ValueError: a field is missing or of another kind.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        found = {key: value for key, value in record.items() if key in known}
        try:
            found["steps"] = tuple(str(step) for step in found.get("steps", ()))
            found["kept"] = tuple(KeptLayer(**row) for row in found.get("kept", ()))
            found["changes"] = {role: GraphChange(**row) for role, row in found.get("changes", {}).items()}
            found["answers"] = Answers(**found["answers"]) if found.get("answers") else None
            found["tokens"] = GreedyTokens(**found["tokens"]) if found.get("tokens") else None
            return cls(**found)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"the record of the variant cannot be read: {error}") from error
