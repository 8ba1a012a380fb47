"""One thread for torch: on a busy machine two wait for each other most of the time."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
