"""Adapts an autoregressive model to masked diffusion; `python -m adapt --help`."""
