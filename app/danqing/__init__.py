"""Danqing 丹青: a Stable Diffusion box. Importing this package imports nothing heavy."""

__version__ = "0.1.0"
