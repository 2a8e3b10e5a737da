"""The fingerprint: the same for the same weights wherever they lie, another for any other weight."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
import torch

from onnx_magic.engine.sources.source import class_name, clean_name, fingerprint_module, is_instance_of
from onnx_magic.errors import SourceError


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(5, 5))


def test_same_weights_give_the_same_fingerprint_in_any_state() -> None:
    model = net()
    expected = fingerprint_module(model)
    assert len(expected) == 16 and int(expected, 16) >= 0
    assert fingerprint_module(net()) == expected
    assert fingerprint_module(copy.deepcopy(model)) == expected
    assert fingerprint_module(model.train()) == expected == fingerprint_module(model.eval())
    assert fingerprint_module(model.requires_grad_(False)) == expected
    assert fingerprint_module(model.to(memory_format=torch.channels_last)) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_counts_and_every_dtype_can_be_read(dtype: torch.dtype) -> None:
    assert fingerprint_module(net().to(dtype)) != fingerprint_module(net())
    assert fingerprint_module(net().to(dtype)) == fingerprint_module(net().to(dtype))


def test_one_changed_weight_buffer_name_or_shape_changes_it() -> None:
    expected = fingerprint_module(net())
    changes = []
    for change in (_one_weight, _one_buffer, _shape):
        model = net()
        change(model)
        changes.append(fingerprint_module(model))
    renamed = torch.nn.Sequential()
    for name, part in zip("abc", net(), strict=True):
        renamed.add_module(name, part)
    changes.append(fingerprint_module(renamed))
    assert expected not in changes and len(set(changes)) == 4


def _one_weight(model: Any) -> None:
    model[0].weight.data.view(-1)[-1] += 1e-6


def _one_buffer(model: Any) -> None:
    model[1].running_mean[0] += 1


def _shape(model: Any) -> None:
    model[2].weight.data = model[2].weight.data.reshape(1, 25)


def test_layout_in_memory_does_not_count() -> None:
    model = torch.nn.Linear(3, 4, bias=False)
    expected = fingerprint_module(model)
    model.weight.data = model.weight.data.t().contiguous().t()
    assert not model.weight.data.is_contiguous()
    assert fingerprint_module(model) == expected


def test_tied_weights_count_as_their_copies_do() -> None:
    tied = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    untied = copy.deepcopy(tied)
    untied[1].weight = torch.nn.Parameter(tied[0].weight.detach().clone())
    assert fingerprint_module(tied) == fingerprint_module(untied)
    untied[1].weight.data += 1
    assert fingerprint_module(tied) != fingerprint_module(untied)


def test_wrappers_do_not_count() -> None:
    model = net()
    expected = fingerprint_module(model)
    assert fingerprint_module(torch.compile(model)) == expected  # type: ignore[arg-type]
    assert fingerprint_module(torch.nn.DataParallel(model)) == expected
    assert fingerprint_module(torch.nn.Sequential(model)) != expected


def test_a_view_of_a_larger_storage_and_empty_tensors_are_read_right() -> None:
    whole = torch.arange(12.0)
    first, second = torch.nn.Module(), torch.nn.Module()
    first.register_buffer("x", whole[:6].view(2, 3))
    second.register_buffer("x", whole[6:].view(2, 3))
    assert fingerprint_module(first) != fingerprint_module(second)
    second.register_buffer("x", torch.arange(6.0).view(2, 3))
    second.register_buffer("empty", torch.zeros(0, 3), persistent=False)
    assert fingerprint_module(first) == fingerprint_module(second)
    second.register_buffer("empty", torch.zeros(0, 3))
    assert fingerprint_module(first) != fingerprint_module(second)


def test_weights_that_were_never_loaded_are_refused() -> None:
    with pytest.raises(SourceError, match="meta device"):
        fingerprint_module(torch.nn.Linear(2, 2, device="meta"))


def test_it_is_fast() -> None:
    model = torch.nn.Linear(4096, 4096, bias=False)  # 64 MB
    started = time.perf_counter()
    fingerprint_module(model)
    assert time.perf_counter() - started < 1.0  # 0.03 s alone; the machine is shared


def test_names() -> None:
    assert clean_name("../é my model (v2)") == "my-model-v2"
    assert clean_name("///") == ""
    assert len(clean_name("x" * 300)) == 80
    assert class_name(type("MyHTTPNet2", (), {})) == "my-http-net2"


def test_instances_are_told_by_class_and_package() -> None:
    assert is_instance_of(torch.nn.Linear(1, 1), "torch", "Module")
    assert not is_instance_of(torch.nn.Linear(1, 1), "transformers", "Module")
