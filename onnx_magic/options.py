"""Every option of every verb, once: its type, its help text, how its text is read, its choices.

A verb's signature uses these types (`task: Task = None`); method, magic, command line, docstring, `--help`,
completion and defaults are derived from it by `frontends.arguments`.

An option's `reads` says what its text means:

* `"text"`: literal text, `{expr}` inserts a value (`task=ner`, `output=models/{name}`);
* `"number"`, `"flag"`, `"axes"`: literal text, parsed;
* `"object"`: a Python expression in the user's namespace (`model`, `inputs=(x, y)`); on the command line a path or
  JSON.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

from onnx_magic.option_values import (
    Axes,
    parse_axes,
    parse_flag,
    parse_int,
    parse_name,
    parse_names,
    parse_share,
    parse_sizes,
    parse_tolerance,
)

Reads: TypeAlias = Literal["text", "number", "flag", "axes", "object"]

Verb = TypeVar("Verb", bound=Callable[..., Any])

OPTIONS_HEAD = "\n\nOptions:\n"
"""What a verb's list of options begins with, in its docstring."""


@dataclass(frozen=True)
class Option:
    """What is known of one option, beside the Python type it annotates.

    Args:
        help: One sentence for `--help`, `?` and the docstring.
        reads: How its text is read (see the module's docstring).
        parse: Text to value; raises ValueError with a sentence that says what was expected.
        choices: All values it may take, where they are few.
        choices_from: `module:function` that lists them, where they live in a higher layer.
        metavar: What stands for the value in help (`N`, `FOLDER`).
        names: What a bare text may name when no variable is called so: `"folder"`, `"Hub id"`, `".onnx file"`.
        per_call: Means something for one call only, so that `%config OnnxMagics` sets no default for it.
        many: Takes all the words that are left on a command line; several make a list.
    """

    help: str
    reads: Reads = "text"
    parse: Callable[[str], Any] = str
    choices: tuple[str, ...] = ()
    choices_from: str | None = None
    metavar: str = ""
    names: tuple[str, ...] = ()
    per_call: bool = False
    many: bool = False


_TASKS = "onnx_magic.engine.tasks:task_names"

Model = Annotated[
    Any,
    Option(
        "A model, a pipeline, a checkpoint folder or a Hub id.",
        reads="object",
        metavar="MODEL",
        names=("folder", "Hub id"),
    ),
]
Exported = Annotated[
    Any,
    Option(
        "What %onnx_export gave, or an exported folder or .onnx file.",
        reads="object",
        metavar="EXPORTED",
        names=("folder", ".onnx file"),
    ),
]
Source = Annotated[
    Path,
    Option("An exported folder or an .onnx file.", reads="object", metavar="PATH", names=("folder", ".onnx file")),
]
Task = Annotated[
    str | None,
    Option(
        "What the model is for; inferred from the model's class when not given.", choices_from=_TASKS, per_call=True
    ),
]
Output = Annotated[
    str | Path | None,
    Option("Folder to write, or a path that ends in .onnx. Default: <name>-onnx.", metavar="FOLDER", per_call=True),
]
Opset = Annotated[
    int | None,
    Option("ONNX opset to write. Default: what the exporter does best.", "number", parse_int, metavar="N"),
]
Dynamic = Annotated[
    Axes | None,
    Option(
        "Axes to keep dynamic: one axis name, no, or {input: {axis: name}}. Default: all that can move.",
        "axes",
        parse_axes,
        metavar="AXES",
    ),
]
Inputs = Annotated[
    Any,
    Option(
        "Example inputs: a tensor, a tuple, a dict, or texts. Default: from the tokenizer, processor or config.",
        reads="object",
        metavar="INPUTS",
    ),
]
Feed = Annotated[
    Any,
    Option("What to run: texts, pairs, an image, arrays by name.", reads="object", metavar="INPUTS", many=True),
]
Exporter = Annotated[
    str,
    Option("How to convert; auto takes torchscript only when dynamo fails.", choices=("auto", "dynamo", "torchscript")),
]
Fold = Annotated[
    bool,
    Option("Fold constants and clean the graph while exporting.", "flag", parse_flag),
]
Highlight = Annotated[
    dict[str, float] | None,
    Option(
        "Numbers that colour nodes, by the node's name: {'node_add': 0.5}.",
        reads="object",
        metavar="NUMBERS",
        per_call=True,
    ),
]
Page = Annotated[
    str | Path | None,
    Option("HTML file to write, or the folder for it.", metavar="FILE", per_call=True),
]
Validate = Annotated[
    bool,
    Option("Prove the graph against PyTorch at shapes it was not traced with.", "flag", parse_flag),
]
Atol = Annotated[
    float | None,
    Option("Absolute tolerance. Default: float32 1e-4, more for big outputs.", "number", parse_tolerance, metavar="X"),
]
Rtol = Annotated[
    float | None,
    Option("Relative tolerance. Default by dtype: float32 1e-3.", "number", parse_tolerance, metavar="X"),
]
Cache = Annotated[
    bool,
    Option(
        "Export a decoder with its key/value cache, so that each step reads one token; no: without past.",
        "flag",
        parse_flag,
    ),
]
Merge = Annotated[
    bool,
    Option(
        "Put both graphs of an encoder-decoder's decoder into one file; no: two files that share their weights.",
        "flag",
        parse_flag,
    ),
]
Overwrite = Annotated[
    bool,
    Option("Overwrite a folder that onnx_magic did not write.", "flag", parse_flag),
]
TrustRemoteCode = Annotated[
    bool,
    Option("Run Python code that comes with a checkpoint. Only for sources that you trust.", "flag", parse_flag),
]
Variant = Annotated[
    str | None,
    Option("Which variant of the folder. Default: the plain export.", metavar="NAME", per_call=True),
]
Against = Annotated[
    Any,
    Option(
        "What to compare with: a model or another export. Default: the live source.",
        reads="object",
        metavar="MODEL",
        names=("folder", "Hub id"),
    ),
]
Provider = Annotated[
    str | None,
    Option("ONNX Runtime execution provider. Default: CPUExecutionProvider.", metavar="NAME"),
]
TopK = Annotated[
    int | None,
    Option(
        "How many answers per sample; of a generated text, how many of the likeliest tokens to draw from. "
        "Default: the task's own.",
        "number",
        parse_int,
        metavar="N",
    ),
]
MaxNewTokens = Annotated[
    int | None,
    Option(
        "How many tokens to generate at most. Default: the model's own, else 256.", "number", parse_int, metavar="N"
    ),
]
MinNewTokens = Annotated[
    int | None, Option("How many tokens to generate at least. Default: 0.", "number", parse_int, metavar="N")
]
Temperature = Annotated[
    float | None,
    Option(
        "Draw tokens at random, likelier ones below 1; 0 takes the likeliest.", "number", parse_tolerance, metavar="X"
    ),
]
TopP = Annotated[
    float | None,
    Option(
        "Draw from the likeliest tokens whose probabilities reach it: 0 to 1.", "number", parse_tolerance, metavar="X"
    ),
]
Seed = Annotated[
    int | None,
    Option("Draw tokens at random with this seed; random states stay as they are.", "number", parse_int, metavar="N"),
]
Stop = Annotated[
    str | list[str] | None, Option("Text at which generation ends; in Python a list of such too.", metavar="TEXT")
]
NumBeams = Annotated[
    int | None, Option("Search with so many beams. Default: the model's own, else 1.", "number", parse_int, metavar="N")
]
RepetitionPenalty = Annotated[
    float | None,
    Option("Above 1 makes tokens that stand there already less likely.", "number", parse_tolerance, metavar="X"),
]
FullText = Annotated[
    bool,
    Option("Give the prompt too, before its continuation.", "flag", parse_flag),
]
_MODES = "onnx_magic.engine.variants.modes:mode_names"

Mode = Annotated[
    str,
    Option(
        "How to make it smaller: int8 needs nothing, int8-static needs data, q4 is weights only.", choices_from=_MODES
    ),
]
Data = Annotated[
    Any,
    Option(
        "Your own samples: texts, arrays, a DataLoader, rows of a data set; a file of texts, one a line.",
        reads="object",
        metavar="DATA",
    ),
]
Accuracy = Annotated[
    float | None,
    Option(
        "Share of answers on data that must stay the same: the worst layers are left in float until it is reached.",
        "number",
        parse_share,
        metavar="SHARE",
        per_call=True,
    ),
]
Samples = Annotated[
    int,
    Option("How many samples of data to use at most.", "number", parse_int, metavar="N"),
]
Calibration = Annotated[
    str,
    Option(
        "How int8-static finds the range of activations.", choices=("minmax", "entropy", "percentile"), per_call=True
    ),
]
PerChannel = Annotated[
    bool | None,
    Option("A scale per output channel, with 8 bits. Default: yes.", "flag", parse_flag, per_call=True),
]
Exclude = Annotated[
    str | tuple[str, ...] | None,
    Option(
        "What to leave as it is: names of nodes, operators or modules, with commas between.",
        parse=parse_names,
        metavar="NAMES",
        per_call=True,
    ),
]
Embeddings = Annotated[
    bool | None,
    Option("Quantize embeddings too. Default: yes for 8 bits, else no.", "flag", parse_flag, per_call=True),
]
BlockSize = Annotated[
    int,
    Option("Weights that share one scale, with 4 bits: 16, 32, 64, 128 or 256.", "number", parse_int, metavar="N"),
]
Level = Annotated[
    str,
    Option(
        "How far to go: ONNX Runtime's own levels, or fusions of whole transformer layers.",
        choices=("fusions", "basic", "extended", "all"),
        per_call=True,
    ),
]
AlsoOptimize = Annotated[
    str | None,
    Option(
        "Make an optimized variant too, at this level.", choices=("fusions", "basic", "extended", "all"), per_call=True
    ),
]
AlsoQuantize = Annotated[
    str | tuple[str, ...] | None,
    Option(
        "Make these variants too, with commas between: int8, uint8, fp16, q4, q4f16.",
        parse=parse_names,
        metavar="MODES",
        per_call=True,
    ),
]
Disable = Annotated[
    str | tuple[str, ...] | None,
    Option(
        "Fusions to leave out, with commas between: EmbedLayerNormalization, Attention, BiasGelu, ...",
        parse=parse_names,
        metavar="NAMES",
        per_call=True,
    ),
]
As = Annotated[
    str | None,
    Option(
        "Variable to bind the result to: a cell magic cannot be assigned.",
        parse=parse_name,
        metavar="NAME",
        per_call=True,
    ),
]
SwapModel = Annotated[
    Any,
    Option(
        "The PyTorch model that ONNX Runtime stands in for. Default: the one that the cell calls.",
        reads="object",
        metavar="MODEL",
    ),
]
Once = Annotated[
    bool,
    Option("Replay the recorded calls of the model instead of running the cell twice.", "flag", parse_flag),
]
Lines = Annotated[
    bool,
    Option("Take the body as text, a sample a line.", "flag", parse_flag, per_call=True),
]

Variants = Annotated[
    tuple[str, ...],
    Option("Variants that answer beside the plain export: int8,q4.", parse=parse_names, metavar="NAMES", per_call=True),
]
Sizes = Annotated[
    int | str | tuple[int, ...] | None,
    Option(
        "Sizes to measure, with commas between. Default: 1,8 for batch and 32,128 for length.",
        parse=parse_sizes,
        metavar="N,N",
    ),
]
Compiled = Annotated[
    bool,
    Option("Measure torch.compile too: it needs a C++ compiler, and minutes for some models.", "flag", parse_flag),
]
Rounds = Annotated[
    int,
    Option("How often each contender has its turn.", "number", parse_int, metavar="N"),
]
Threads = Annotated[
    int | None,
    Option("Threads within one operator, for both sides. Default: the cores.", "number", parse_int, metavar="N"),
]
InterOp = Annotated[
    int,
    Option("Operators that may run at the same time, for both sides.", "number", parse_int, metavar="N"),
]
Time = Annotated[
    bool,
    Option(
        "Measure how long each side takes, on as many threads, and show it below.", "flag", parse_flag, per_call=True
    ),
]


def documented(verb: Verb) -> Verb:
    """Add the list of a verb's options to its docstring, so that no option is described twice.

    Example:
        >>> def rest(*, opset: Opset = None) -> None:
        ...     "Rest a while."
        >>> "opset: ONNX opset to write." in documented(rest).__doc__
        True
    """
    lines = []
    for name, parameter in inspect.signature(verb).parameters.items():
        kind = parameter.annotation
        if isinstance(kind, str):
            kind = eval(kind, inspect.unwrap(verb).__globals__)  # an annotation of our own modules, as text
        option = next((extra for extra in get_args(kind)[1:] if isinstance(extra, Option)), None)
        if option is not None:
            lines.append(f"    {name}: {option.help}")
    verb.__doc__ = f"{inspect.getdoc(verb)}{OPTIONS_HEAD}" + "\n".join(lines) + "\n"
    return verb
