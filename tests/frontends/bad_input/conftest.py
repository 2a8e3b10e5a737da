"""A shell in an empty folder, and `refused(cell, kind)`, which checks what holds for every error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onnx_magic.errors import (
    OnnxMagicError,
)
from tests.frontends.bad_input.helpers import Refused, Scaled, drawn, modes, snapshot


@pytest.fixture(scope="module")
def bert(tiny_bert: Callable[..., Any]) -> Any:
    """A sentiment classifier of which a part is in train mode."""
    model = tiny_bert("SequenceClassification", num_labels=2, id2label={0: "NEGATIVE", 1: "POSITIVE"})
    model.classifier.train()
    return model


@pytest.fixture
def checkpoint(workdir: Path, bert: Any, tiny_tokenizer: Any) -> Path:
    """`tiny`: a checkpoint folder in the current one."""
    bert.save_pretrained("tiny")
    tiny_tokenizer.save_pretrained("tiny")
    return Path("tiny")


@pytest.fixture
def shell(raising_shell: Any, workdir: Path, bert: Any) -> Any:
    """A shell in an empty folder, with `model`, a plain module `net`, and inputs for that, `x` and `scale`."""
    raising_shell.run("%load_ext onnx_magic")
    torch.manual_seed(0)
    net = Scaled()
    net.rest.eval()
    raising_shell.user_ns.update(model=bert, net=net, x=torch.randn(2, 4), scale=torch.ones(1), np=np, torch=torch)
    return raising_shell


@pytest.fixture
def refused(shell: Any, workdir: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """`refused(cell, kind)`: run a cell that must fail; the error, once all that holds for every error is checked."""

    def run(cell: str, kind: type[OnnxMagicError]) -> OnnxMagicError:
        models = [value for value in shell.user_ns.values() if isinstance(value, nn.Module)]
        before, training = snapshot(workdir), [modes(model) for model in models]
        shell.display_pub.outputs.clear()
        capfd.readouterr()
        with pytest.raises(OnnxMagicError) as caught:
            shell.run(cell)
        error = caught.value
        assert type(error) is kind and error.stage, repr(error)
        assert shell.error_text.splitlines() == [error.what, f"fix: {error.fix}"]
        assert capfd.readouterr() == ("", ""), "nothing else is printed"
        assert not any(drawn(shell).values()), "the stages are gone"
        assert snapshot(workdir) == before, "nothing is written, nothing is lost"
        assert [modes(model) for model in models] == training
        return error

    return run
