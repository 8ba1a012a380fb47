"""Pictures as arrays: resizing, masks, colours, grids, tiles. Knows Pillow, NumPy and OpenCV; no networks, no tensors."""
