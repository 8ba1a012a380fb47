"""Wildcards and dynamic prompts."""
