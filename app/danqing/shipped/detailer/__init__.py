"""Faces drawn once more, larger."""
