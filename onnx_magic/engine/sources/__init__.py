"""What was given → ModelSource.

source.py: the noun and the fingerprint. resolving.py: what was given, and who reads it. torch_modules.py: any
`nn.Module`. transformers_models.py: live models and pipelines. checkpoints.py: loading a folder. files.py: is the
folder sound? hub.py: a Hub id → its folder. sentence_transformers.py: the adapter for sentence-transformers models.
"""

from __future__ import annotations

from onnx_magic.engine.sources.resolving import resolve_source as resolve_source
from onnx_magic.engine.sources.source import ModelSource as ModelSource
from onnx_magic.engine.sources.source import fingerprint_module as fingerprint_module
