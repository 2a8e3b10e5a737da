"""Decoders and encoder-decoders with a key/value cache.

kinds.py: a row per kind of generator. parts.py: one graph of it. caches.py: the cache as flat tensors. decoders.py: the
graph of a decoder. proving.py: each graph, at prefill and at steps. tokens.py, prompts.py: the tokens that come of it.
hosting.py, answering.py, ort_cache.py: Transformers' `generate` on ONNX Runtime.
"""
