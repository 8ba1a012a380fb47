"""Networks on top of a checkpoint: reading LoRA, LyCORIS and hypernetwork files, and their arithmetic. Knows no request."""
