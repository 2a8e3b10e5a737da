"""One declaration: what a verb's signature says is what method, magic and command line take."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import onnx_magic
import onnx_magic.verbs
from onnx_magic import exported, options
from onnx_magic.errors import OnnxMagicError, UnknownOptionError, UsageError
from onnx_magic.frontends.arguments import VERBS, verb_arguments
from onnx_magic.frontends.documenting import command_help, magic_help, program_help
from onnx_magic.frontends.lines import split_line
from onnx_magic.frontends.magics import CONFIGURABLE, OnnxMagics
from onnx_magic.frontends.reading import NamespaceReader, ShellReader

from .conftest import Module

EXPORT = VERBS["export"].arguments
RUN = VERBS["run"].arguments


def in_notebook(line: str, **scope: Any) -> dict[str, Any]:
    return EXPORT.parse(split_line(line).words, NamespaceReader(scope), prefix="%onnx_export")


def in_shell(*argv: str) -> dict[str, Any]:
    return EXPORT.parse(argv, ShellReader(), prefix="onnx-magic export", many=True)


def run_in_shell(*argv: str) -> dict[str, Any]:
    return RUN.parse(argv, ShellReader(), prefix="onnx-magic run", many=True)


class TestTheTable:
    def test_every_verb_file_is_in_it(self) -> None:
        files = {module.name for module in pkgutil.iter_modules(onnx_magic.verbs.__path__)}
        assert files == set(VERBS)

    @pytest.mark.parametrize("verb", VERBS)
    def test_a_verb_is_a_public_function_whose_options_are_declared(self, verb: str) -> None:
        function = VERBS[verb].function
        assert getattr(onnx_magic, verb) is function
        every = inspect.signature(function).parameters
        parameters = [name for name, parameter in every.items() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
        fields = verb_arguments(function).fields
        assert [field.name for field in fields] == parameters
        for field in fields:
            assert field.default is every[field.name].default
            assert field.option in declared_options(), f"{verb}({field.name}=) is not declared in options.py"
            assert field.option.help.endswith("."), f"{verb}({field.name}=) is not explained in a sentence"

    @pytest.mark.parametrize("verb", [v for v in VERBS if VERBS[v].line_magic or VERBS[v].cell_magic])
    def test_magics_take_what_the_verb_takes(self, verb: str) -> None:
        row = VERBS[verb]
        assert (row.line_magic or row.cell_magic) in vars(OnnxMagics.__mro__[1])
        if row.cell_magic:
            names = {field.name for field in row.cell_arguments.fields}
            own = {field.name for field in row.arguments.fields} - set(row.cell_without)
            assert own < names and "as_" in names
            assert not names & set(row.cell_without)
            by_name = {field.name: field for field in row.arguments.fields}
            assert all(by_name[f.name] == f for f in row.cell_arguments.fields if f.name in own)

    def test_the_axes_magic_takes_what_export_takes_too(self) -> None:
        named = [field.name for field in VERBS["plan"].line_arguments.fields]
        assert set(named) == {field.name for field in EXPORT.fields} and len(named) == len(set(named))
        assert {field.name for field in VERBS["plan"].arguments.fields} < set(named), "the command has its own only"
        assert VERBS["load"].line_arguments == VERBS["load"].arguments

    @pytest.mark.parametrize("verb", exported.VERBS)
    def test_methods_take_what_the_verb_takes(self, verb: str) -> None:
        assert exported.verb_signature(verb) == inspect.signature(VERBS[verb].function)
        assert verb in VERBS

    @pytest.mark.parametrize("verb", VERBS)
    def test_help_names_every_option(self, verb: str) -> None:
        row = VERBS[verb]
        for field in row.arguments.fields:
            assert field.option.help.split(".")[0][:40] in " ".join((row.function.__doc__ or "").split())
            if row.line_magic:
                assert (field.metavar if field.required else f"{field.word}=") in magic_help(row)
            if row.command:
                assert (field.metavar if field.required else field.flag) in command_help(row, "onnx-magic")
        if row.command:
            assert f"  {row.command}" in program_help("onnx-magic")

    def test_defaults_of_config_come_from_the_same_options(self) -> None:
        declared = {f.name: f for row in VERBS.values() for f in row.arguments.fields}
        assert {"opset", "exporter", "validate", "atol", "rtol", "provider"} <= CONFIGURABLE.keys()
        assert not {"output", "task", "model", "inputs"} & CONFIGURABLE.keys()
        assert all(CONFIGURABLE[name] == declared[name] for name in CONFIGURABLE.keys() & declared.keys())

    def test_a_parameter_without_an_option_is_refused(self) -> None:
        def verb(*, size: int = 1) -> None: ...

        with pytest.raises(TypeError, match="carries no Option"):
            verb_arguments(verb)


def declared_options() -> list[options.Option]:
    """Every Option of options.py."""
    hints = (getattr(value, "__metadata__", ()) for value in vars(options).values())
    return [extra for hint in hints for extra in hint if isinstance(extra, options.Option)]


class TestAMagicsLine:
    def test_every_kind_of_option(self) -> None:
        model = Module()
        given = in_notebook(
            """model task=ner output=models/{name} dynamic={"x": {0: "batch"}} --opset 18 overwrite=yes atol=1e-3"""
            """ --validate=no inputs=(size, 2)""",
            model=model,
            name="mini",
            size=1,
        )
        assert given == {
            "model": model,
            "task": "ner",
            "output": "models/mini",
            "dynamic": {"x": {0: "batch"}},
            "opset": 18,
            "overwrite": True,
            "atol": 1e-3,
            "validate": False,
            "inputs": (1, 2),
        }

    @pytest.mark.parametrize(
        ("line", "name", "value"),
        [
            ("model --overwrite", "overwrite", True),
            ("model --overwrite --task ner", "overwrite", True),
            ("model --trust-remote-code yes", "trust_remote_code", True),
            ("model opset={n}", "opset", 17),
            ("model opset=auto", "opset", None),
            ("model exporter=auto", "exporter", "auto"),
            ("model dynamic=no", "dynamic", False),
            ("model dynamic='batch_size'", "dynamic", "batch_size"),
            ("model output='my folder'", "output", "my folder"),
            ("model sentiment-analysis", "task", "sentiment-analysis"),
            ("model=model task=ner", "task", "ner"),
            ('"org/name" task=ner', "model", "org/name"),
        ],
    )
    def test_one_option(self, line: str, name: str, value: Any) -> None:
        assert in_notebook(line, model=Module(), n=17)[name] == value

    def test_a_model_by_name(self, workdir: Path) -> None:
        (workdir / "models" / "mini").mkdir(parents=True)
        (workdir / "model.onnx").touch()
        (workdir / "model").mkdir()
        model = Module()
        assert in_notebook("models/mini")["model"] == "models/mini"
        assert in_notebook("models/{name}", name="mini")["model"] == "models/mini"
        assert in_notebook("google-bert/bert-base-cased")["model"] == "google-bert/bert-base-cased"
        assert in_notebook("bert-base-uncased")["model"] == "bert-base-uncased"
        assert in_notebook("model.onnx", model=model)["model"] == "model.onnx"
        assert in_notebook("model", model=model)["model"] is model, "a variable goes before a folder"
        assert in_notebook("model")["model"] == "model"
        assert in_notebook("nets['a']", nets={"a": model})["model"] is model
        assert in_notebook("{model}", model=model)["model"] is model, "braces, as other magics want them"
        assert in_notebook("{where}", where="models/mini")["model"] == "models/mini"

    def test_a_name_that_nothing_has(self) -> None:
        with pytest.raises(UsageError) as caught:
            in_notebook("modle task=ner", model=Module(), text="x")
        assert caught.value.what == (
            "there is no variable, folder or Hub id called 'modle': did you mean 'model'? "
            "(variables that hold a model: model)"
        )
        assert caught.value.fix == "%onnx_export model task=ner"
        with pytest.raises(UsageError, match=r"called 'gpt2'\n") as caught:
            in_notebook("gpt2")
        assert caught.value.fix == '%onnx_export "gpt2"'
        assert in_notebook('"gpt2"') == {"model": "gpt2"}

    def test_a_folder_that_is_nearly_there(self, workdir: Path) -> None:
        (workdir / "nets" / "deep" / "sentiment-mini").mkdir(parents=True)
        with pytest.raises(UsageError) as caught:
            in_notebook("nets/deep/sentimnet-mini")
        assert caught.value.fix == "%onnx_export nets/deep/sentiment-mini"

    def test_expressions_that_raise_keep_their_cause(self) -> None:
        with pytest.raises(UsageError, match=r"inputs=1/0 raised ZeroDivisionError: division by zero") as caught:
            in_notebook("model inputs=1/0", model=Module())
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        with pytest.raises(UsageError, match="raised NameError.*did you mean 'size'") as caught:
            in_notebook("model inputs=(siez, 2)", model=Module(), size=1)
        assert caught.value.fix == "%onnx_export model inputs=(size, 2)"
        with pytest.raises(UsageError, match="raised Silent: Silent"):
            in_notebook("model inputs=fails()", model=Module(), fails=fail_silently)

    def test_a_broken_expression(self) -> None:
        with pytest.raises(UsageError, match="is not a Python expression") as caught:
            in_notebook("model inputs=1+*2", model=Module())
        assert isinstance(caught.value.__cause__, SyntaxError)

    @pytest.mark.parametrize(
        ("line", "kind", "what", "fix"),
        [
            ("model taks=ner", UnknownOptionError, "'taks': did you mean 'task'?", "model task=ner"),
            ("model --taks ner", UnknownOptionError, "'taks': did you mean 'task'?", "model --task ner"),
            ("model --trust-remote-cod yes", UnknownOptionError, "did you mean", "model --trust-remote-code yes"),
            ("model --no-validate", UnknownOptionError, "write validate=no", "model validate=no"),
            ("model qqq=1", UnknownOptionError, "it has output, opset", "model"),
            ("model opset=18 as=n", UnknownOptionError, "which is for cells: a line is assigned", "n = model opset=18"),
            ("model -x", UnknownOptionError, "no option -x", "model"),
            ("model opset=18 opset=17", UsageError, "given twice: 18 and 17", "model opset=18"),
            ("model ner task=qa", UsageError, "given twice: ner and qa", "model ner"),
            ("model task=", UsageError, "task has no value", "model task=feature-extraction"),
            ("model --opset --fold", UsageError, "opset has no value", "model --fold"),
            ("model opset=x", UsageError, "'x' is not a whole number", "model"),
            ("model opset=n", UsageError, "'n' is not a whole number", "model opset={n}"),
            ("model --opset n", UsageError, "'n' is not a whole number", "model --opset {n}"),
            ("model validate=maybe", UsageError, "neither yes nor no", "model"),
            ("model exporter=dynmo", UsageError, "did you mean 'dynamo'?", "model exporter=dynamo"),
            ("model atol=-1", UsageError, "expected 0 or above", "model"),
            ("model dynamic={'x':1}", UsageError, "no table of axes", "model"),
            ("model dynamic={f():{0:'a'}}", UsageError, "no table of axes", "model"),
            ("model task = ner", UsageError, "without spaces around its '=': task=ner", "model task=ner"),
            ("model qa spare", UsageError, "'spare' is one word too many: export takes model and task", "model qa"),
            ("task=ner", UsageError, "export needs model", "task=ner model"),
        ],
    )
    def test_mistakes_are_put_right(self, line: str, kind: type[OnnxMagicError], what: str, fix: str) -> None:
        with pytest.raises(kind) as caught:
            in_notebook(line, model=Module(), n=18)
        assert what in caught.value.what
        name, equals, rest = fix.partition(" = ")
        assert caught.value.fix == (f"{name} = %onnx_export {rest}" if equals else f"%onnx_export {fix}")
        assert "\n" not in caught.value.what + caught.value.fix

    def test_the_corrected_line_is_right(self) -> None:
        """The fix of a mistake can itself be given: nothing is lost on the way."""
        with pytest.raises(UnknownOptionError) as caught:
            in_notebook("model taks=ner dynamic={'x': {0: 'a'}}", model=1)
        assert in_notebook(caught.value.fix.removeprefix("%onnx_export "), model=1) == {
            "model": 1,
            "task": "ner",
            "dynamic": {"x": {0: "a"}},
        }

    def test_nothing_of_a_model_is_called_to_find_it(self) -> None:
        class Touchy:
            def __getattr__(self, name: str) -> Any:
                raise RuntimeError("touched")

        with pytest.raises(UsageError, match="variables that hold a model: model"):
            in_notebook("modle", model=Module(), touchy=Touchy())


class Silent(Exception):
    """Says nothing."""


def fail_silently() -> None:
    raise Silent


class TestACommandLine:
    def test_options_in_both_spellings(self) -> None:
        wanted = {"model": "a/b", "task": "ner", "trust_remote_code": True, "opset": 18}
        assert in_shell("a/b", "--task", "ner", "--trust-remote-code", "yes", "--opset=18") == wanted
        assert in_shell("a/b", "task=ner", "trust_remote_code=yes", "opset=18") == wanted
        assert in_shell("a/b", "ner", "--opset", "18", "--trust-remote-code") == wanted

    def test_text_is_literal(self) -> None:
        assert in_shell("a", "--output", "models/{name}")["output"] == "models/{name}"

    def test_objects_are_text_json_or_files(self, workdir: Path) -> None:
        (workdir / "x.json").write_text('{"x": [1, 2]}')
        (workdir / "x.txt").write_text("one\ntwo\n")
        import numpy as np

        np.savez(workdir / "x.npz", x=np.ones(2))
        assert run_in_shell("f", "I loved it")["inputs"] == "I loved it"
        assert run_in_shell("f", '{"x": [[1]]}')["inputs"] == {"x": [[1]]}
        assert run_in_shell("f", "@x.json")["inputs"] == {"x": [1, 2]}
        assert run_in_shell("f", "@x.txt")["inputs"] == ["one", "two"]
        assert run_in_shell("f", "@x.npz")["inputs"]["x"].tolist() == [1.0, 1.0]
        for bad in ("@nowhere.json", "{broken"):
            with pytest.raises(UsageError, match="cannot be read"):
                run_in_shell("f", bad)

    def test_several_texts_are_a_list(self) -> None:
        given = run_in_shell("f", "good", "bad", "--top-k", "2")
        assert given == {"exported": "f", "inputs": ["good", "bad"], "top_k": 2}

    def test_a_text_with_an_equals_sign_is_a_text(self) -> None:
        assert run_in_shell("f", "E=mc2 is short")["inputs"] == "E=mc2 is short"
        assert run_in_shell("f", "--", "top_k=1", "--x")["inputs"] == ["top_k=1", "--x"]
        with pytest.raises(UnknownOptionError, match="did you mean 'provider'"):
            run_in_shell("f", "text", "providr=x")

    def test_fixes_are_lines_for_a_shell(self) -> None:
        with pytest.raises(UnknownOptionError) as caught:
            in_shell("my model", "--taks", "ner")
        assert caught.value.fix == "onnx-magic export 'my model' --task ner"


def test_choices_that_live_elsewhere_exist() -> None:
    """`choices_from` is a string, so nothing but this finds a function that was renamed."""
    for option in declared_options():
        if option.choices_from:
            module, _, function = option.choices_from.partition(":")
            assert getattr(importlib.import_module(module), function)()
