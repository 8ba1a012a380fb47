# The base that the project was asked for: end of life since May 2025, hidden from listings, refused by Marketplace.
base            = "focal-pytorch-1.13"
base_name       = "Deep Learning AMI GPU PyTorch 1.13.? (Ubuntu 20.04) ????????"
base_owners     = ["amazon"]
base_deprecated = true
volume_size     = 75
