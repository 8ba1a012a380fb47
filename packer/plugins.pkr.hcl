# What `packer init packer` fetches. Packer 1.9.5 is the last release under the MPL; newer ones work too.
packer {
  required_version = ">= 1.9.0"
  required_plugins {
    amazon = {
      version = "= 1.8.2"
      source  = "github.com/hashicorp/amazon"
    }
    ansible = {
      version = "= 1.1.4"
      source  = "github.com/hashicorp/ansible"
    }
  }
}
