"""Runs an exported folder, or any .onnx file, with no PyTorch model around.

folder.py: an opened folder (layout.py: which files are graphs, manifests.py: what onnx_magic.json says of them).
graphs.py: what is in a graph. sessions.py: ONNX Runtime, quietly. feeds.py: arrays that fit.
samples.py: texts and images as a person has them (tokenizing.py, imaging.py: to arrays).
decoding.py: arrays to answers (entities.py, spans.py, scoring.py). agreeing.py: whether two backends answer the same.
running.py: all of it in one call.

Imports neither torch nor transformers.
"""
