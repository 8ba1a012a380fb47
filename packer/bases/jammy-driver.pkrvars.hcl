# Ubuntu 22.04 with NVIDIA's driver and CUDA, without frameworks.
base        = "jammy-driver"
base_name   = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) ????????"
base_owners = ["amazon"]
volume_size = 75
