"""Decoders and encoder-decoders with a key-value cache: the graphs they are exported as, and the proof of these."""
