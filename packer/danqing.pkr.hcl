# The image: a builder machine from the base, Ansible's roles on it, and what comes out.
#
# Written for Packer 1.9 and newer. Between `modern: begin` and `modern: end` stands what Debian's Packer 1.6.6 cannot read; the
# lab (tools/boxlab) and the tests cut that away from a copy. Run from the repository's root: packer build packer

locals {
  stamp = formatdate("YYYYMMDD-hhmmss", timestamp())
  name  = "${var.name_prefix}-${var.version}-${var.base}-${local.stamp}"
  tags = merge({
    Name               = local.name
    Project            = "danqing"
    "danqing:version"  = var.version
    "danqing:revision" = var.revision
    "danqing:base"     = var.base
    "danqing:user"     = var.ssh_username
  }, var.tags)
}

source "amazon-ebs" "danqing" {
  region          = var.region
  ami_name        = local.name
  ami_description = "Danqing ${var.version} (${var.revision}) on ${var.base}"

  custom_endpoint_ec2        = var.endpoint
  skip_region_validation     = var.emulated
  skip_credential_validation = var.emulated
  skip_metadata_api_check    = var.emulated

  source_ami = var.source_ami
  source_ami_filter {
    filters = {
      name                = var.base_name
      root-device-type    = "ebs"
      virtualization-type = "hvm"
      architecture        = "x86_64"
    }
    owners      = var.base_owners
    most_recent = true
    # modern: begin
    include_deprecated = var.base_deprecated
    # modern: end
  }

  # one or the other: the plugin refuses both
  instance_type               = length(var.spot_instance_types) > 0 ? "" : var.instance_type
  spot_price                  = var.spot_price
  spot_instance_types         = var.spot_instance_types
  iam_instance_profile        = var.instance_profile
  subnet_id                   = var.subnet_id
  associate_public_ip_address = var.associate_public_ip
  shutdown_behavior           = "terminate"
  ebs_optimized               = true
  # modern: begin
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  temporary_security_group_source_public_ip = ! var.session_manager
  # modern: end

  communicator              = "ssh"
  ssh_username              = var.ssh_username
  ssh_interface             = var.session_manager ? "session_manager" : var.ssh_interface
  ssh_timeout               = "10m"
  ssh_clear_authorized_keys = true
  # modern: begin
  temporary_key_pair_type = "ed25519"
  # modern: end

  launch_block_device_mappings {
    device_name           = var.root_device
    volume_type           = "gp3"
    volume_size           = var.volume_size
    iops                  = var.volume_iops
    throughput            = var.volume_throughput
    delete_on_termination = true
    encrypted             = var.encrypt
    kms_key_id            = var.kms_key_id
  }

  encrypt_boot = var.encrypt ? true : null
  kms_key_id   = var.kms_key_id
  ami_regions  = var.ami_regions
  ami_users    = var.ami_users
  # modern: begin
  ami_org_arns = var.ami_org_arns
  ami_ou_arns  = var.ami_ou_arns
  imds_support = "v2.0"
  deprecate_at = timeadd(timestamp(), "${var.deprecate_days * 24}h")
  deregistration_protection {
    enabled       = var.protect
    with_cooldown = false
  }
  # modern: end

  tags            = local.tags
  snapshot_tags   = local.tags
  run_tags        = merge(local.tags, { Name = "${var.name_prefix}-builder" })
  run_volume_tags = merge(local.tags, { Name = "${var.name_prefix}-builder" })

  aws_polling {
    # large images are copied and snapshotted slowly: up to four hours instead of ten minutes
    delay_seconds = 30
    max_attempts  = 480
  }
}

build {
  sources = ["source.amazon-ebs.danqing"]

  provisioner "shell" {
    inline = [
      "if command -v cloud-init >/dev/null; then sudo cloud-init status --wait >/dev/null || true; fi",
      "test $(uname -m) = x86_64 || { echo 'Danqing needs an x86-64 base.' >&2; exit 1; }",
    ]
  }

  provisioner "ansible" {
    command       = var.ansible_command
    playbook_file = var.ansible_playbook
    user          = var.ssh_username
    use_proxy     = false
    ansible_env_vars = [
      "ANSIBLE_CONFIG=ansible/ansible.cfg",
      "ANSIBLE_HOST_KEY_CHECKING=False",
      "ANSIBLE_PIPELINING=True",
      "ANSIBLE_FORCE_COLOR=0",
    ]
    extra_arguments = concat([
      "-e", "danqing_version=${var.version}",
      "-e", "danqing_revision=${var.revision}",
      "-e", "danqing_base=${var.base}",
      "-e", "danqing_marketplace=${var.marketplace}",
    ], var.ansible_arguments)
  }

  # what is in the image, as CycloneDX; the script and its output leave the builder again
  provisioner "shell" {
    script          = "packer/sbom.py"
    execute_command = "sudo python3 {{ .Path }} --name '${local.name}' --output /tmp/danqing.cdx.json"
  }
  provisioner "file" {
    direction   = "download"
    source      = "/tmp/danqing.cdx.json"
    destination = "${var.out}/${local.name}.cdx.json"
  }
  provisioner "shell" {
    inline = ["sudo rm -f /tmp/danqing.cdx.json"]
  }

  provisioner "shell" {
    script          = var.validator
    execute_command = "sudo MARKETPLACE=${var.marketplace ? 1 : 0} sh {{ .Path }}"
  }

  post-processor "manifest" {
    output     = "${var.out}/manifest.json"
    strip_path = true
    custom_data = {
      name     = local.name
      version  = var.version
      revision = var.revision
      base     = var.base
      sbom     = "${local.name}.cdx.json"
    }
  }
}
