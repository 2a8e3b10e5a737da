"""Variants of an exported graph: optimized, float16, 8 bits, 4 bits; each one proven again."""
