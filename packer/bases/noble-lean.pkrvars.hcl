# Plain Ubuntu 24.04, supported until April 2029: the smallest image; the build installs NVIDIA's driver.
base        = "noble-lean"
base_name   = "ubuntu/images/hvm-ssd*/ubuntu-noble-24.04-amd64-server-*"
base_owners = ["099720109477"]
volume_size = 40
