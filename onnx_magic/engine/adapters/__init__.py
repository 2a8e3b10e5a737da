"""The only files that touch inner parts of torch and transformers, each with the versions it is for."""
