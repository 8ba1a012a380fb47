# The base of `make box`: Debian 12 in a container, in the Deep Learning AMI's place. Not for AWS.
base          = "debian-lab"
base_name     = "debian-12-amd64-lab"
base_owners   = ["136693071363"]
ssh_username  = "admin"
root_device   = "/dev/xvda"
instance_type = "g5.xlarge"
volume_size   = 20
emulated      = true
ssh_interface = "private_ip"
