# Ubuntu 22.04 with NVIDIA's driver and PyTorch, supported until April 2027.
base        = "jammy-pytorch"
base_name   = "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.? (Ubuntu 22.04) ????????"
base_owners = ["amazon"]
volume_size = 75
