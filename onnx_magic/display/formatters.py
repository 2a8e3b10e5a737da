"""The bundles in an IPython shell: registered when the extension is loaded, taken away when it is unloaded.

Formatters that somebody had registered before for the same type are kept within ours, and put back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from onnx_magic.display.bundles import FORMATTED, Bundle, bundle, shows

if TYPE_CHECKING:
    from IPython.core.formatters import BaseFormatter
    from IPython.core.interactiveshell import InteractiveShell

ToRecord: TypeAlias = Callable[[Any], object]

_KINDS: tuple[type, ...] = (*FORMATTED, tuple)
"""`tuple`: of stages or tasks; every other tuple goes to whoever showed it before."""


class BundlePrinter:
    """A mime bundle formatter for one type; `previous` is who stood there before, `None` when nobody did."""

    def __init__(self, to_record: ToRecord | None, previous: Callable[..., Any] | None) -> None:
        self.to_record = to_record
        self.previous = previous

    def __call__(self, value: Any) -> Bundle | Any:
        """The bundle of `value`; for a value that is not ours what it was shown as before."""
        record = self.to_record(value) if self.to_record else value
        if shows(record):
            return bundle(record)
        if self.previous is not None:
            return self.previous(value)
        method = getattr(type(value), "_repr_mimebundle_", None)
        return method(value) if method is not None else None


class TextPrinter:
    """A text formatter for one type for which IPython has one of its own, which would outrank the mime bundle."""

    def __init__(self, to_record: ToRecord | None, general: Callable[..., Any], previous: Callable[..., Any] | None):
        self.to_record = to_record
        self.general = general
        self.previous = previous

    def __call__(self, value: Any, printer: Any, cycle: bool) -> None:
        """Write the text of `value`; for a value that is not ours let IPython do it."""
        record = self.to_record(value) if self.to_record else value
        if shows(record):
            printer.text(bundle(record)["text/plain"])
        else:
            self.general(value, printer, cycle)


def register(shell: InteractiveShell, extra: Mapping[type, ToRecord] | None = None) -> None:
    """Show records in `shell` as their bundles. Doing it twice is doing it once.

    Args:
        shell: The IPython shell.
        extra: Further types, each with what turns a value of it into a record: `{ExportedModel: lambda e: e.report}`.
    """
    unregister(shell)
    kinds: dict[type, ToRecord | None] = {kind: None for kind in _KINDS}
    kinds.update(extra or {})
    bundles, texts = _formatters(shell)
    for kind, to_record in kinds.items():
        # not what for_type returns: that may be the formatter of a base class
        bundles.for_type(kind, BundlePrinter(to_record, _exactly(bundles, kind)))
        try:
            general = texts.lookup_by_type(kind)
        except KeyError:
            continue
        texts.for_type(kind, TextPrinter(to_record, general, _exactly(texts, kind)))


def unregister(shell: InteractiveShell) -> None:
    """Take away what `register` put there, and put back what stood there before."""
    for formatter in _formatters(shell):
        for kind, printer in list(formatter.type_printers.items()):
            if not isinstance(printer, BundlePrinter | TextPrinter):
                continue
            formatter.pop(kind)
            if printer.previous is not None:
                formatter.for_type(kind, printer.previous)


def _exactly(formatter: BaseFormatter, kind: type) -> Callable[..., Any] | None:
    """The formatter of this very class; IPython's annotation says that names are the keys, which they are not."""
    printers: dict[Any, Callable[..., Any]] = formatter.type_printers
    return printers.get(kind)


def _formatters(shell: InteractiveShell) -> tuple[BaseFormatter, BaseFormatter]:
    display = shell.display_formatter
    assert display is not None, "an IPython shell has a display formatter"
    return display.mimebundle_formatter, display.formatters["text/plain"]
