"""`benchmark`: PyTorch, ONNX Runtime and every variant, timed in turns."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from onnx_magic import options
from onnx_magic.option_values import names_of, sizes_of

if TYPE_CHECKING:
    from onnx_magic.records.benchmarks import Benchmark


@options.documented
def benchmark(
    exported: options.Exported,
    *,
    inputs: options.Inputs = None,
    batch: options.Sizes = None,
    length: options.Sizes = None,
    variants: options.Variants = (),
    against: options.Against = None,
    compiled: options.Compiled = False,
    rounds: options.Rounds = 5,
    threads: options.Threads = None,
    inter_op: options.InterOp = 1,
    provider: options.Provider = None,
) -> Benchmark:
    """Measure how fast PyTorch, the export and its variants are, and how much memory each needs.

    Every contender runs in a process of its own, one at a time, with the same number of threads; after a warm-up until
    its times are steady they take turns, round by round. PyTorch is the live model, or the one that the manifest names.
    An interrupt keeps what was measured.

    Returns:
        Benchmark: medians, 10th and 90th percentiles, speed-up over PyTorch, memory, size; `.to_frame()`, `.plot()`.

    Raises:
        UsageError: a size for an axis that is not dynamic, an unknown variant or execution provider.
        FeedError: the inputs do not fit the graph.

    Example:
        >>> bench = benchmark("sentiment-mini-onnx", batch="1,8", rounds=3)  # doctest: +SKIP
        >>> bench.speed_up("ONNX Runtime", "batch 1, length 32")  # doctest: +SKIP
        2.1
    """
    from onnx_magic.engine.variants.contending import PLAIN as CONTENDER
    from onnx_magic.engine.variants.contest import ContestRequest, run_contest
    from onnx_magic.exported import as_exported, named_variants
    from onnx_magic.records.variants_table import PLAIN, variants_table

    target = as_exported(exported)
    while target.variant is not None and target.parent is not None:  # of a variant all is measured, as of the export
        target = target.parent
    names = names_of(variants)
    chosen = named_variants(target, names) if names else dict(target.variants)
    request = ContestRequest(
        inputs=inputs,
        batches=sizes_of("batch", batch),
        lengths=sizes_of("length", length),
        against=against,
        compiled=compiled,
        rounds=rounds,
        threads=threads,
        inter_op=inter_op,
        provider=provider,
    )
    bench = run_contest(target.opened, {name: one.opened for name, one in chosen.items()}, target.live, request)
    if not chosen:
        return bench
    table = variants_table(target.report, [one.report for one in chosen.values()])
    return dataclasses.replace(bench, table=table.with_times(bench, {PLAIN: CONTENDER}))
