# Plain Ubuntu 22.04, supported until April 2027: the smallest image; the build installs NVIDIA's driver.
base        = "jammy-lean"
base_name   = "ubuntu/images/hvm-ssd*/ubuntu-jammy-22.04-amd64-server-*"
base_owners = ["099720109477"]
volume_size = 40
