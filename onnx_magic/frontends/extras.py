"""Options that one form of a magic has beside its verb's own: signatures alone, nothing here is called."""

from __future__ import annotations

from onnx_magic import options


def export_cell(*, as_: options.As = None) -> None:
    """What `%%onnx_export` takes beside the options of `export`."""


def run_cell(
    *,
    as_: options.As = None,
    model: options.SwapModel = None,
    once: options.Once = False,
    lines: options.Lines = False,
    variants: options.Variants = (),
    time: options.Time = False,
) -> None:
    """What `%%onnx_run` takes beside the options of `run`."""


def play_line(
    inputs: options.Feed = None,
    *,
    atol: options.Atol = None,
    rtol: options.Rtol = None,
    variants: options.Variants = (),
) -> None:
    """Try a model in a live panel: type an input, and see every backend's answer.

    PyTorch (while the live model is held), ONNX Runtime and every variant (or those of `variants`) answer side by side,
    with their times; the output tensor, sample, top-k and tolerance to look at are chosen there. Without `inputs` it
    begins with the task's own samples. In a terminal, or without ipywidgets and anywidget, these answers stand alone.

    Returns:
        Playground: `.inputs` (set it to run something else), `.result`, `.output`, `.sample`, `.top_k`, `.atol`,
        `.rtol`; the answers (`Played`) where no panel can live.

    Raises:
        FeedError: the model does not take `inputs`.
        GraphFileError: the folder is gone.

    Example:
        >>> panel = %onnx_play exported  # doctest: +SKIP
        >>> panel.inputs = ["I loved it", "A dull mess"]  # doctest: +SKIP
    """
