"""Selectable scripts: plans that draw several pictures, or one in several goes, from one request."""
