"""danqing-mini: a miniature Stable Diffusion 1.x model, trained by this package from drawn scenes.

Run as `python -m danqing.mini`; the card is `docs/mini-model.md`.
"""

from danqing import torchvision_shim as torchvision_shim  # before diffusers and transformers
