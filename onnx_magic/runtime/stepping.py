"""A decoder, step by step, with IO binding: the cache stays in ONNX Runtime from one step to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_magic.errors import FeedError, GraphFileError
from onnx_magic.records.results import Array
from onnx_magic.runtime.feeds import numpy_dtype
from onnx_magic.runtime.reordering import CacheEdits
from onnx_magic.runtime.sessions import Session

if TYPE_CHECKING:
    from onnxruntime import OrtValue

LOGITS = "logits"
BRANCH = "use_cache_branch"
PAST, PRESENT = "past_key_values.", "present."

FromEncoder = ("encoder_hidden_states", "encoder_attention_mask")


@dataclass(frozen=True, eq=False)
class Past:
    """What a decoder remembers between two steps.

    Args:
        values: `{input: OrtValue}`; they are ONNX Runtime's own memory and are never read here.
        length: Tokens per row, padding included.
        batch: Rows.
    """

    values: Mapping[str, OrtValue]
    length: int
    batch: int


class DecoderSteps:
    """One decoder on ONNX Runtime: `step(feed, past)` gives the logits and the past for the next step.

    Inputs are bound as the graph has them: what it does not take is left out, and `attention_mask`, `position_ids` and
    `use_cache_branch` are made where they are not given.

    Args:
        session: The graph; of a split pair, the one without a past, which runs the first step.
        later: Of a split pair, the graph with a past, which runs all other steps.

    Example:
        >>> steps = DecoderSteps(opened.session())  # doctest: +SKIP
        >>> logits, past = steps.step({"input_ids": np.array([[1, 2]])}, steps.empty(1))  # doctest: +SKIP
        >>> past.length  # doctest: +SKIP
        2
    """

    def __init__(self, session: Session, later: Session | None = None) -> None:
        self.session, self.later = session, later
        owner = later or session
        self.names = tuple(name for name in owner.inputs if name.startswith(PAST))
        self.inputs = frozenset((*session.inputs, *(later.inputs if later else ()))) - set(self.names)
        self._presents = {name: PRESENT + name.removeprefix(PAST) for name in self.names}
        self._lengths = [name for name in self.names if ".encoder." not in name]
        self._edits = CacheEdits(session.provider)
        self._dtypes = {name: numpy_dtype(owner.dtype(name)) for name in self.inputs if name in owner.inputs}
        self._dtypes |= {name: numpy_dtype(session.dtype(name)) for name in self.inputs if name in session.inputs}

    @property
    def has_past(self) -> bool:
        """Whether the graph takes a past; without one every step runs over all tokens again."""
        return bool(self.names)

    @property
    def logits(self) -> str:
        """Name of the output that holds the logits."""
        return LOGITS if LOGITS in self.session.outputs else self.session.outputs[0]

    def dtype(self, name: str) -> np.dtype[Any]:
        """The dtype of an input that is not of the past."""
        return self._dtypes[name]

    def empty(self, batch: int) -> Past:
        """The past before the first token.

        Raises:
            GraphFileError: the graph does not say how large a past is.
        """
        if self.later is not None:  # the first graph of a split pair takes no past
            return Past({}, 0, batch)
        return Past({name: self._empty_value(name, batch) for name in self.names}, 0, batch)

    def given(self, values: Mapping[str, OrtValue]) -> Past:
        """A past that comes from elsewhere, as `{input: OrtValue}`.

        Raises:
            FeedError: a tensor is missing, or has a shape that the graph does not take.
        """
        for name in self.names:
            self._check(name, values)
        sizes = {(value.shape()[0], value.shape()[self.axis(name)]) for name, value in self._dated(values)}
        if len(sizes) != 1:
            raise FeedError(
                f"the past is {', '.join(f'{b} rows of {n} tokens' for b, n in sorted(sizes))}: all layers must agree",
                fix="past_key_values=None, and all tokens in input_ids",
            )
        ((batch, length),) = sizes
        return Past(dict(values), length, batch)

    def axis(self, name: str) -> int:
        """Which axis of an input of the past grows with the tokens."""
        shape = self._owner.shape(name)
        return next((axis for axis, dim in enumerate(shape) if axis and not isinstance(dim, int)), len(shape) - 2)

    def step(self, feed: Mapping[str, Array | OrtValue], past: Past | None) -> tuple[OrtValue, Past | None]:
        """Run the graph on the tokens that are new.

        Args:
            feed: `input_ids` int64[batch, tokens], and what else is known: `attention_mask` over past and new tokens,
                `position_ids`, `encoder_hidden_states`, ...; names that the graph does not have are left out.
            past: What was computed before; `None` for a graph without a past.

        Returns:
            The logits [batch, tokens, vocabulary], and the past for the next step.

        Raises:
            FeedError: an input that the graph needs is missing, or has values it cannot take.
            GraphFileError: a node of the graph fails.
        """
        begun = past is not None and past.length > 0
        ids = feed.get("input_ids")
        if begun and past is not None and ids is not None and _shape(ids)[0] != past.batch:
            raise FeedError(
                f"the past has {past.batch} rows, input_ids {_shape(ids)[0]}", fix="give a row of input_ids for each"
            )
        session = self.later if self.later is not None and begun else self.session
        values = {} if past is None else {n: past.values[n] for n in self.names if n in session.inputs}
        plain = [name for name in session.inputs if name not in values]
        known = self._completed(feed, plain, past.length if past else 0)
        found = session.run_bound({name: known[name] for name in plain} | values, (self.logits,))
        if past is None:
            return found[self.logits], None
        kept = {name: self._kept(name, found, past, begun) for name in self.names}
        tokens = known["input_ids"].shape()
        session.count_step()
        return found[self.logits], Past(kept, past.length + tokens[1], tokens[0])

    def select(self, past: Past, rows: Array) -> Past:
        """The past of these rows, in this order; rows may be repeated, or left out."""
        if len(rows) == past.batch and bool((rows == np.arange(past.batch)).all()):
            return past
        return Past(self._edits.select(past.values, rows), past.length, len(rows))

    def crop(self, past: Past, length: int) -> Past:
        """The past of the first `length` tokens."""
        if length >= past.length:
            return past
        if length == 0:
            return self.empty(past.batch)
        axes = {name: self.axis(name) for name in self._lengths}
        return Past({**past.values, **self._edits.crop(past.values, axes, length)}, length, past.batch)

    def last(self, logits: OrtValue) -> Array:
        """The logits after each row's last token, float32[batch, vocabulary]: only these are copied to NumPy."""
        if self.session.dtype(self.logits) == "bfloat16":  # NumPy's door for foreign memory does not know it
            return np.asarray(self.session.array(self.logits, logits)[:, -1], np.float32)
        return np.array(np.from_dlpack(logits)[:, -1], np.float32)

    @property
    def _owner(self) -> Session:
        """The session that takes a past."""
        return self.later or self.session

    def _empty_value(self, name: str, batch: int) -> OrtValue:
        shape = self._owner.shape(name)
        if not shape or sum(not isinstance(dim, int) for dim in shape[1:]) > 1:
            raise GraphFileError(
                f"how large an empty {name} is cannot be told: the graph says {list(shape)}",
                fix="exported = %onnx_export model",
            )
        sizes = [dim if isinstance(dim, int) else batch if axis == 0 else 0 for axis, dim in enumerate(shape)]
        return self._owner.value(name, np.zeros(sizes, numpy_dtype(self._owner.dtype(name))))

    def _dated(self, values: Mapping[str, OrtValue]) -> list[tuple[str, OrtValue]]:
        """The values that grow with the tokens."""
        return [(name, values[name]) for name in self._lengths]

    def _check(self, name: str, values: Mapping[str, OrtValue]) -> None:
        expected = self._owner.shape(name)
        found = tuple(values[name].shape()) if name in values else ()
        fits = len(found) == len(expected) and all(
            dim == size for dim, size in zip(expected, found, strict=True) if isinstance(dim, int)
        )
        if not fits:
            shape = list(found) if name in values else "missing"
            raise FeedError(
                f"{name} of the past is {shape}; expected {self._owner.dtype(name)}{list(expected)}",
                fix="past_key_values=None, and all tokens in input_ids",
            )

    def _kept(self, name: str, found: Mapping[str, OrtValue], past: Past, begun: bool) -> OrtValue:
        """A tensor of the next past: what this step gave, but for the encoder's, which the first step gives once."""
        present = self._presents[name]
        old = begun and ".encoder." in name and name in past.values
        return past.values[name] if old or present not in found else found[present]

    def _completed(
        self, feed: Mapping[str, Array | OrtValue], names: Sequence[str], length: int
    ) -> dict[str, OrtValue]:
        """What is fed, and what nobody gave but everyone means the same by leaving it out."""
        from onnxruntime import OrtValue

        known: dict[str, Any] = {name: feed[name] for name in ("input_ids", *names) if name in feed}
        ids = known.get("input_ids", known.get("inputs_embeds"))
        if ids is None:
            raise FeedError("there are no tokens to go on with", fix='exported.run("Once upon a time")')
        rows, tokens = _shape(ids)[:2]
        if "attention_mask" in names and "attention_mask" not in known:
            known["attention_mask"] = np.ones((rows, length + tokens), self._dtypes["attention_mask"])
        if "position_ids" in names and "position_ids" not in known:
            known["position_ids"] = positions(known.get("attention_mask"), rows, length, tokens)
        if BRANCH in names and BRANCH not in known:
            known[BRANCH] = np.array([length > 0])
        for name in names:
            if name not in known:
                raise FeedError(
                    f"the decoder needs {name}: expected {self.session.dtype(name)}{list(self.session.shape(name))}",
                    fix=f"give {name}",
                )
        _refuse_unlike(known, rows, length, tokens)
        arrays = {name: value for name, value in known.items() if isinstance(value, np.ndarray)}
        return known | {
            name: OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value, self._dtypes.get(name)))
            for name, value in arrays.items()
        }


def positions(mask: Array | OrtValue | None, rows: int, length: int, tokens: int) -> Array:
    """The positions of the new tokens, padding not counted: int64[rows, tokens].

    Example:
        >>> positions(np.array([[0, 1, 1], [1, 1, 1]]), 2, 0, 3).tolist()
        [[0, 0, 1], [0, 1, 2]]
    """
    if mask is None:
        return np.broadcast_to(np.arange(length, length + tokens, dtype=np.int64), (rows, tokens))
    values = mask if isinstance(mask, np.ndarray) else mask.numpy()
    counted = np.cumsum(values != 0, axis=-1, dtype=np.int64) - 1
    return np.where(values != 0, counted, 0)[:, -tokens:]


def _refuse_unlike(known: Mapping[str, Any], rows: int, length: int, tokens: int) -> None:
    """Raise a FeedError for a mask that does not go over past and new tokens."""
    shape = _shape(known["attention_mask"]) if "attention_mask" in known else (rows, length + tokens)
    if shape != (rows, length + tokens):
        over = f"{length} tokens of the past and {tokens} new ones" if length else f"{tokens} tokens"
        raise FeedError(
            f"attention_mask has shape {list(shape)}: expected {[rows, length + tokens]}, over {over}",
            fix="leave attention_mask out where nothing is padding",
        )


def _shape(value: Any) -> tuple[int, ...]:
    return value.shape if isinstance(value, np.ndarray) else tuple(value.shape())
