"""The parts of the page, one file each: they lay out and name components and know no handlers."""
