"""The errors of onnx_magic: one tree, every leaf says what failed, on what, observed against expected, and the fix.

```
OnnxMagicError                 .stage, .fix
├── UsageError                 an option, a name or a combination that cannot be meant
│   ├── UnknownOptionError     a misspelt option (did you mean)
│   ├── UnknownTaskError       a misspelt task (did you mean)
│   └── TaskMismatchError      a task that this model cannot do
├── SourceError                the model cannot be had: no such variable, folder or Hub id; broken weights
├── InputsError                example inputs are missing, or the model itself raises on them
├── FeedError                  a feed that the graph does not take: wrong name, rank, dtype
├── ExportError                tracing or conversion failed, in every way that was tried
│   └── OpsetError             an opset that no exporter reaches
├── VerificationError          the exported graph does not do what the model does
├── StorageError               the output folder: not ours, not writable, disk full
├── GraphFileError             an .onnx file or an exported folder that cannot be read
└── SwapError                  ONNX Runtime cannot stand in for the model here
```

The Python API lets these through with their traceback and `__cause__`; the magics and the command line print
`str(error)`: two lines, `what` and `fix: ...`.
"""

from __future__ import annotations


class OnnxMagicError(Exception):
    """Root of every error that onnx_magic raises on purpose.

    Args:
        what: One line: what failed, on what, observed against expected.
        fix: One line that can be run or typed; empty where there is nothing to do.
        stage: The stage of work it happened in (`"source"`, `"plan"`, `"capture"`, ...).

    Example:
        >>> str(OnnxMagicError("task 'nerr' is not known", fix="task=ner"))
        "task 'nerr' is not known\\nfix: task=ner"
    """

    stage: str | None = None
    fix: str = ""
    log: str = ""
    """What the libraries wrote up to here."""

    def __init__(self, what: str, *, fix: str = "", stage: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        if stage is not None:
            self.stage = stage

    def __str__(self) -> str:
        """`what` on the first line, the fix on the second."""
        return f"{self.what}\nfix: {self.fix}" if self.fix else self.what

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by value: the keyword-only arguments are not in `args`."""
        return (_rebuild, (type(self), self.what, self.fix, self.stage))


def _rebuild(kind: type[OnnxMagicError], what: str, fix: str, stage: str | None) -> OnnxMagicError:
    return kind(what, fix=fix, stage=stage)


class UsageError(OnnxMagicError):
    """An option, a name or a combination that cannot be meant."""

    stage = "arguments"


class UnknownOptionError(UsageError):
    """A misspelt option; the fix names the nearest one."""


class UnknownTaskError(UsageError):
    """A misspelt task; the fix names the nearest one."""


class TaskMismatchError(UsageError):
    """A task that this model cannot do; the fix names the tasks that fit."""


class SourceError(OnnxMagicError):
    """The model cannot be had: no such variable, folder or Hub id, or broken weights."""

    stage = "source"


class InputsError(OnnxMagicError):
    """Example inputs are missing, or the model itself raises on them."""

    stage = "plan"


class FeedError(OnnxMagicError):
    """A feed that the graph does not take: an unknown name, a wrong rank or dtype."""

    stage = "run"


class ExportError(OnnxMagicError):
    """Tracing or conversion failed, in every way that was tried; `attempts` keeps each failure."""

    stage = "export"

    def __init__(
        self,
        what: str,
        *,
        fix: str = "",
        stage: str | None = None,
        attempts: tuple[tuple[str, BaseException], ...] = (),
    ) -> None:
        super().__init__(what, fix=fix, stage=stage)
        self.attempts = attempts


class OpsetError(ExportError):
    """An opset that no exporter here reaches, or that was not the one written."""


class VerificationError(OnnxMagicError):
    """The exported graph does not do what the model does."""

    stage = "verify"


class StorageError(OnnxMagicError):
    """The output folder: not ours, not writable, or the disk is full."""

    stage = "store"


class GraphFileError(OnnxMagicError):
    """An .onnx file or an exported folder that cannot be read."""

    stage = "load"


class SwapError(OnnxMagicError):
    """ONNX Runtime cannot stand in for the model here."""

    stage = "swap"
