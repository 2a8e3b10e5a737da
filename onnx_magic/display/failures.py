"""Errors as people read them: what failed, then what to do. Two lines, no traceback."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_magic.display.blocks import Blocks, Item, Verdict
from onnx_magic.display.verdict import finding_item
from onnx_magic.display.wording import SENTENCE_LIMIT, shown
from onnx_magic.errors import ExportError, OnnxMagicError
from onnx_magic.records.findings import Finding

_CAUSES = 5


def error_text(error: BaseException, *, verbose: bool = False) -> str:
    """An error in lines: `what` and `fix: ...` of ours; of any other its class, its message, and each cause.

    Args:
        error: What was raised.
        verbose: Also of ours: each way that was tried, and each cause, a line each.

    Example:
        >>> print(error_text(OnnxMagicError("task 'nerr' is not known", fix="task=ner")))
        task 'nerr' is not known
        fix: task=ner
    """
    if not isinstance(error, OnnxMagicError):
        return "\n".join([_line(_named(error)), *(_line(f"caused by {_named(cause)}") for cause in _causes(error))])
    lines = [_line(error.what)]
    lines += [_line(f"fix: {error.fix}")] if error.fix else []
    if verbose:
        attempts = error.attempts if isinstance(error, ExportError) else ()
        lines += [_line(f"tried {way}: {_named(failure)}") for way, failure in attempts]
        lines += [_line(f"caused by {_named(cause)}") for cause in _causes(error)]
    return "\n".join(lines)


def error_blocks(error: OnnxMagicError) -> Blocks:
    """An error of ours: what failed and the fix, then each way that was tried."""
    attempts = error.attempts if isinstance(error, ExportError) else ()
    tried = [Item("quiet", f"tried {way}", _named(failure)) for way, failure in attempts]
    return [Verdict("bad", "error", error.what, error.fix), *tried]


def finding_blocks(finding: Finding) -> Blocks:
    """A finding of its own."""
    return [finding_item(finding)]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What the error came from, nearest first; stops at a loop."""
    seen, cause = {id(error)}, error.__cause__
    while cause is not None and id(cause) not in seen and len(seen) <= _CAUSES:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__


def _named(error: BaseException) -> str:
    message = error.what if isinstance(error, OnnxMagicError) else str(error).strip()
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _line(text: str) -> str:
    return shown(text, SENTENCE_LIMIT)
