# Every knob of the image. packer/bases/NAME.pkrvars.hcl sets those of a base; `make ami` sets the rest from its own variables.

# --- where and from what

variable "region" {
  description = "AWS region of the build. The partition (aws, aws-cn, aws-us-gov) follows from it."
  type        = string
  default     = "us-east-1"
}

variable "base" {
  description = "Name of the base image: the var file's name."
  type        = string
}

variable "base_name" {
  description = "Name filter of the base image, * and ? allowed; the newest match is taken."
  type        = string
}

variable "base_owners" {
  description = "Accounts or aliases that the base image may come from."
  type        = list(string)
  default     = ["amazon"]
}

variable "base_deprecated" {
  description = "Whether images past their deprecation date may match, which listings hide."
  type        = bool
  default     = false
}

variable "source_ami" {
  description = "An image id that pins the base; it must match the filter. Empty: the newest match."
  type        = string
  default     = ""
}

variable "ssh_username" {
  description = "The base's login."
  type        = string
  default     = "ubuntu"
}

variable "root_device" {
  description = "Name of the base's root device."
  type        = string
  default     = "/dev/sda1"
}

# --- the builder

variable "instance_type" {
  description = "The builder's type. Baking needs no GPU; the driver comes with the base."
  type        = string
  default     = "m7i.xlarge"
}

variable "spot_price" {
  description = "Builder at spot price: auto, or the most to pay in dollars an hour. Empty: on demand."
  type        = string
  default     = ""
}

variable "spot_instance_types" {
  description = "Types among which a spot builder is chosen; instance_type is left alone when this is empty."
  type        = list(string)
  default     = []
}

variable "session_manager" {
  description = "Reach the builder through AWS Systems Manager: no open port, but instance_profile must allow it."
  type        = bool
  default     = false
}

variable "instance_profile" {
  description = "IAM instance profile of the builder; needed for session_manager and for models from S3."
  type        = string
  default     = ""
}

variable "subnet_id" {
  description = "Subnet of the builder. Empty: one of the default network."
  type        = string
  default     = ""
}

variable "associate_public_ip" {
  description = "Whether the builder gets a public address; false suits private subnets with session_manager."
  type        = bool
  default     = true
}

# --- the image's disk

variable "volume_size" {
  description = "Root disk in GiB."
  type        = number
  default     = 60
}

variable "volume_throughput" {
  description = "gp3 throughput of the root disk in MiB/s, 125 to 1000."
  type        = number
  default     = 300
}

variable "volume_iops" {
  description = "gp3 operations a second, at least four times the throughput."
  type        = number
  default     = 3000
}

variable "encrypt" {
  description = "Encrypt the image's snapshots. Marketplace refuses those, and an image encrypted with the default key cannot be shared."
  type        = bool
  default     = false
}

variable "kms_key_id" {
  description = "Key to encrypt with. Empty: the account's default key for EBS."
  type        = string
  default     = ""
}

# --- who gets the image

variable "name_prefix" {
  description = "What the image's name begins with."
  type        = string
  default     = "danqing"
}

variable "version" {
  description = "Danqing's version."
  type        = string
  default     = "0"
}

variable "revision" {
  description = "The commit that the image is made of."
  type        = string
  default     = "unknown"
}

variable "ami_regions" {
  description = "Regions that the image is copied to."
  type        = list(string)
  default     = []
}

variable "ami_users" {
  description = "Accounts that may launch it."
  type        = list(string)
  default     = []
}

variable "ami_org_arns" {
  description = "Organisations (ARNs) that may launch it."
  type        = list(string)
  default     = []
}

variable "ami_ou_arns" {
  description = "Organisational units (ARNs) that may launch it."
  type        = list(string)
  default     = []
}

variable "deprecate_days" {
  description = "Days after which listings hide the image. Marketplace takes none older than two years."
  type        = number
  default     = 700
}

variable "protect" {
  description = "Protect the image against being deregistered by mistake."
  type        = bool
  default     = false
}

variable "tags" {
  description = "More tags for image, snapshots, builder and its disk."
  type        = map(string)
  default     = {}
}

variable "marketplace" {
  description = "Build what AWS Marketplace accepts: not encrypted, not shared, checked by the validator's stricter rules."
  type        = bool
  default     = false
}

# --- what goes in

variable "ansible_playbook" {
  description = "The playbook."
  type        = string
  default     = "ansible/site.yml"
}

variable "ansible_command" {
  description = "The program that runs it."
  type        = string
  default     = "ansible-playbook"
}

variable "ansible_arguments" {
  description = "More arguments for it, such as [\"-e\", \"danqing_models=sd15\"]."
  type        = list(string)
  default     = []
}

variable "validator" {
  description = "The script that looks at the finished image and refuses what must not be in one."
  type        = string
  default     = "ansible/roles/cleanup/files/validate.sh"
}

variable "out" {
  description = "Folder for the manifest and the list of components (SBOM)."
  type        = string
  default     = "build/ami"
}

# --- an AWS that is emulated: all of these are empty or false for the real one

variable "endpoint" {
  description = "URL of the EC2 API."
  type        = string
  default     = ""
}

variable "emulated" {
  description = "Ask neither for valid credentials nor for a known region."
  type        = bool
  default     = false
}

variable "ssh_interface" {
  description = "Address of the builder to use: public_ip, private_ip, ... Empty: what the network allows."
  type        = string
  default     = ""
}
