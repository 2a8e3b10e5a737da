"""Decoders and encoder-decoders with a key/value cache.

kinds.py: a row per kind of generator. parts.py: one graph of it. caches.py: the cache as flat tensors. decoders.py: the
graph of a decoder. encoder_decoders.py, encoder_decoder_parts.py, merging.py, joining.py: the graphs of an
encoder-decoder, and the one file that its two decoder graphs become. proving.py: each graph, at prefill and at steps.
tokens.py, prompts.py: the tokens that come of it. sides.py: PyTorch's side of each graph, read off the graph's names.
walking.py, facing.py: a person's own inputs through the graphs of an encoder-decoder. hosting.py, answering.py,
ort_cache.py: Transformers' `generate` on ONNX Runtime.
"""
