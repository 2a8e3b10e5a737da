"""The only files that touch inner parts of torch, transformers and onnxruntime: one each, with the versions they are for."""
