# Ubuntu 24.04 with NVIDIA's driver and PyTorch, supported until April 2029.
base        = "noble-pytorch"
base_name   = "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.* (Ubuntu 24.04) ????????"
base_owners = ["amazon"]
volume_size = 75
