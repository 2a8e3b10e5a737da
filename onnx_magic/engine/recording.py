"""What a run did and said: its stages, and the lines that the libraries wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from onnx_magic.errors import OnnxMagicError
from onnx_magic.events import Event, LogLine, StageDone
from onnx_magic.records.artifact import Stage
from onnx_magic.records.findings import Finding


class Recorder:
    """Takes the events of a run.

    A stage that came twice (another way was tried) counts with both its times.

    Args:
        stages: The stages of the run, in order: one that is not reached stays `None`, any other is left out. Without
            them every stage that comes is kept.

    Attributes:
        findings: What the run itself adds, for its report.

    Example:
        >>> seen = Recorder(("plan", "store"))
        >>> seen.see(StageDone("plan", True, 0.5))
        >>> [(stage.name, stage.ok) for stage in seen.stages]
        [('plan', True), ('store', None)]
    """

    def __init__(self, stages: Sequence[str] = ()) -> None:
        self._known = frozenset(stages)
        self._rows = {name: Stage(name) for name in stages}
        self._lines: list[str] = []
        self.findings: list[Finding] = []

    def see(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, LogLine):
            self._lines.append(event.text)
        elif isinstance(event, StageDone) and (not self._known or event.name in self._known):
            before = self._rows.get(event.name, Stage(event.name))
            self._rows[event.name] = Stage(event.name, event.ok, before.seconds + event.seconds, event.detail)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages, in order."""
        return tuple(self._rows.values())

    @property
    def log(self) -> str:
        """What the libraries wrote."""
        return "\n".join(self._lines)

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Give an error of ours the log of the run, so that what the libraries said is not lost with it."""
        try:
            yield
        except OnnxMagicError as error:
            error.log = self.log
            raise
