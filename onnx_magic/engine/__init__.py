"""From a model to a verified folder. Takes and returns records, never prints.

sources/: what was given → ModelSource. tasks/: the tables. adapters/: the only files that touch inner parts of torch,
transformers and onnxruntime. An export goes through probing.py, planning.py, converting.py, validating.py, storing.py.
"""
