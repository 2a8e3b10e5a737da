"""The user's data through an encoder-decoder: what calibrates each of its graphs, and what its tokens are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from onnx_magic.engine.generation.walking import walk
from onnx_magic.engine.variants.verifying import answers_of
from onnx_magic.errors import OnnxMagicError

if TYPE_CHECKING:
    from onnx_magic.records.variants import Answers
    from onnx_magic.runtime.folder import OpenedFolder

Array: TypeAlias = np.ndarray[Any, Any]
Feed: TypeAlias = Mapping[str, Array]
Run: TypeAlias = Callable[[str, Feed], Feed]

LOGITS = "logits"
TOKENS = "text-generation"


@dataclass(frozen=True, eq=False)
class Walks:
    """What each graph was fed, and gave, while the first tokens were written for each feed of the encoder.

    Args:
        taken: Of each feed (role, inputs, outputs of the reference) of every run.
    """

    taken: Sequence[Sequence[tuple[str, Feed, Feed]]]

    def feeds(self, role: str) -> list[Feed]:
        """All that one graph was fed."""
        return [given for one in self.taken for of, given, _ in one if of == role]

    def answers(self, run: Run, *, cosine: float, data: str) -> Answers | None:
        """How many tokens a variant chooses as the reference does, each behind the reference's own tokens.

        Args:
            run: Runs a graph of the variant.
            cosine: What a sample's cosine must reach.
            data: Where the samples came from.

        Returns:
            The answers; `None` where it does not run.
        """
        runs: list[tuple[Feed, Feed, Feed]] = []
        try:
            for one in self.taken:
                pairs = [(told[LOGITS], run(role, given)[LOGITS]) for role, given, told in one[1:]]
                expected, actual = (np.concatenate([pair[i][:, -1:] for pair in pairs], axis=1) for i in (0, 1))
                runs.append(({LOGITS: expected}, {LOGITS: actual}, {}))
        except OnnxMagicError:
            return None  # the verdict says why
        return answers_of(runs, TOKENS, cosine=cosine, data=data)


def walks_of(opened: OpenedFolder, feeds: Sequence[Feed], run: Run) -> Walks:
    """Go through the graphs with each feed of the encoder.

    Args:
        opened: The folder of the parent.
        feeds: The user's data, as the encoder takes it.
        run: Runs the reference of a graph.
    """
    return Walks([list(walk(opened, feed, run)) for feed in feeds])
