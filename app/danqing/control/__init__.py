"""Preprocessors of ControlNet: a picture in, a control map out."""
