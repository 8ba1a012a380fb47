"""Training: textual inversion, LoRA, DreamBooth and hypernetworks. Knows folders and tensors, no queue and no HTTP."""
