"""`python -m onnx_magic` is the command line."""

from onnx_magic.frontends.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
