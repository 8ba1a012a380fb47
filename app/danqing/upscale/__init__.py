"""Upscalers: which there are (`catalog`, no torch) and how their networks are run (`networks`)."""
