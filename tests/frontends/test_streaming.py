"""Generating in a cell: %%onnx_run, text that grows, an interrupt, bad input in two lines."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_magic.display.growing import GrowingText
from onnx_magic.display.progress import EMPTY
from onnx_magic.events import StageDone, StageStarted, Token, emit, stage


@pytest.fixture
def cell(raising_shell: Any, writer: Any) -> Any:
    raising_shell.run("%load_ext onnx_magic")
    raising_shell.user_ns.update(
        exported=writer.load(),
        model=writer.model,
        tokenizer=writer.tokenizer,
        ids=writer.tokenizer("the one", return_tensors="pt"),
    )
    raising_shell.display_pub.outputs.clear()
    return raising_shell


def texts(shell: Any) -> list[str]:
    return [bundle["text/plain"] for bundle in shell.shown]


def test_a_cell_that_generates_stands_side_by_side(cell: Any) -> None:
    side = cell.run("%%onnx_run exported\ntokenizer.decode(model.generate(**ids, max_new_tokens=6, pad_token_id=0)[0])")
    assert side and side.expected == side.actual and len(side.comparison) == 6
    assert side.latency is None
    text = "".join(texts(cell))
    assert "agrees with PyTorch in 6 calls" in text and "token 6/6" in text and "tokens/s" not in text


def test_a_seedless_pipeline_draws_the_same_on_both_sides(cell: Any) -> None:
    cell.run("from transformers import pipeline\ntalk = pipeline('text-generation', model=model, tokenizer=tokenizer)")
    side = cell.run("%%onnx_run exported time=yes\ntalk('the', max_new_tokens=5, do_sample=True, pad_token_id=0)")
    assert side and side.expected == side.actual
    assert [timing.tokens for timing in side.latency.timings] == [5, 5]
    assert "tokens/s" in texts(cell)[-1]


def test_a_text_at_the_end_of_a_cell_is_gone_on_with(cell: Any) -> None:
    side = cell.run("%%onnx_run exported model=model max_new_tokens=5 seed=3 time=yes\n'the one'")
    assert side and side.expected.decoded == side.actual.decoded
    assert side.expected.tokens == 5 and any("tokens/s" in text for text in texts(cell))
    assert cell.run("%%onnx_run exported max_new_tokens=5 full_text=no\n['the', 'on']").decoded[1]["generated_text"]


BAD = {
    "once": ("once=yes\nmodel.generate(**ids, max_new_tokens=2)", "leave once out"),
    "options": ("max_new_tokens=3\nmodel.generate(**ids, max_new_tokens=2)", "model.generate(..., max_new_tokens=3)"),
    "lacks": (
        "\nmodel.generate(**ids, max_new_tokens=2, output_attentions=True, return_dict_in_generate=True)",
        "output_attentions=False",
    ),
    "empty": ("\n''", "exported.run("),
    "none": ("max_new_tokens=0\n'the'", "max_new_tokens=40"),
    "long": ("\n'on ' * 99", "give at most 64 tokens"),
    "chat": ("\n[{'role': 'user', 'content': 'the'}]", "exported.run('the')"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_two_lines(cell: Any, name: str) -> None:
    body, fix = BAD[name]
    with pytest.raises(Exception, match="fix: "):
        cell.run(f"%%onnx_run exported {body}")
    lines = cell.error_text.strip().splitlines()
    assert len(lines) == 2 and lines[1].startswith("fix: ") and fix in lines[1]


def test_the_command_line_generates(writer: Any, capsys: Any) -> None:
    from onnx_magic.frontends.cli import main

    assert main(["run", str(writer.folder), "the one", "--max-new-tokens", "4"]) == 0
    assert "generated_text" in capsys.readouterr().out
    assert main(["run", str(writer.folder), "the one", "--max-new-tokens", "0"]) == 1
    assert capsys.readouterr().err.splitlines()[1].startswith("fix: ")


class TestCells:
    """What a notebook holds, with a publisher that can change its outputs."""

    def test_text_grows_and_is_gone(self, cell: Any) -> None:
        cell.run("result = exported.run('the one', max_new_tokens=6)")
        published = texts(cell)
        assert published[0] == published[-1] == "" and any("the one" not in text and text for text in published)

    def test_nothing_is_shown_where_nothing_grows(self, cell: Any) -> None:
        cell.run("1 + 1")
        assert texts(cell) == ["2"]

    def test_an_interrupt_keeps_what_there_was(self, cell: Any) -> None:
        def interrupted() -> None:
            with stage("generate"):
                emit(Token("Once upon"))
                raise KeyboardInterrupt

        cell.user_ns["interrupted"] = interrupted
        with pytest.raises(KeyboardInterrupt):
            cell.run("interrupted()")
        assert "Once upon" in texts(cell)[-1] and "interrupted" in texts(cell)[-1]
        cell.run("2")
        assert texts(cell)[-1] == "2"

    def test_unload_ends_it(self, cell: Any) -> None:
        cell.run("%unload_ext onnx_magic")
        cell.display_pub.outputs.clear()
        cell.run("result = exported.run('the one', max_new_tokens=3)")
        assert texts(cell) == []


class TestGrowingText:
    """The board alone, with a clock of its own."""

    def test_rows_rate_and_end(self) -> None:
        now = [0.0]
        text = GrowingText(clock=lambda: now[0])
        assert text.bundle() == EMPTY
        text.feed(StageStarted("generate"))
        for piece, row in (("Once", 0), ("<b>", 1), (" upon", 0)):
            text.feed(Token(piece, row))
        now[0] = 1.5
        assert text.line() == "Once upon  2 tokens/s"
        assert "&lt;b&gt;" in text.bundle()["text/html"]
        text.feed(StageDone("generate", True, 1.5))
        text.close(keep=True)
        assert text.bundle() == EMPTY

    def test_a_long_text_shows_its_end(self) -> None:
        text = GrowingText(clock=lambda: 0.0)
        text.feed(Token("word " * 60 + "end"))
        assert text.line().startswith("…") and text.line().endswith("end") and len(text.line()) <= 79

    def test_a_new_generation_begins_anew(self) -> None:
        text = GrowingText(clock=lambda: 0.0)
        text.feed(Token("one"))
        text.feed(StageStarted("generate"))
        assert text.bundle() == EMPTY
        assert not text.feed(StageStarted("verify"))
