"""Decoders and encoder-decoders with a KV cache, on ONNX Runtime.

ort_cache.py: the cache that `generate()` carries, without its tensors. answering.py: a forward that ONNX Runtime
answers. hosting.py: a model of Transformers without weights, whose forward is that one.
"""

from __future__ import annotations
