"""What can go wrong with AWS, and what to do about it: code, exit code, one English and one Chinese sentence.

The rows are apart from those of `danqing.errors`, which are the API's. `explained` turns what boto3 raises into one of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from danqing.errors import DanqingError, ErrorKind, ParamValue

MEND = 2
"""Exit code for what the caller can mend."""

FAILED = 1
"""Exit code for what AWS could not do."""


def _rows(*rows: tuple[str, int, str, str]) -> dict[str, ErrorKind]:
    return {row[0]: ErrorKind(*row) for row in rows}


KINDS: Mapping[str, ErrorKind] = _rows(
    (
        "no_credentials",
        MEND,
        "No AWS credentials were found. Run `aws configure`, or set AWS_PROFILE or AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY.",
        "没有找到 AWS 凭证。请运行 `aws configure`，或设置 AWS_PROFILE，或设置 AWS_ACCESS_KEY_ID 与 "
        "AWS_SECRET_ACCESS_KEY。",
    ),
    (
        "no_profile",
        MEND,
        "AWS profile “{profile}” does not exist. `aws configure list-profiles` shows those that do.",
        "AWS 配置“{profile}”不存在。`aws configure list-profiles` 会列出现有的配置。",
    ),
    (
        "expired",
        MEND,
        "The AWS credentials have expired. Log in again (`aws sso login`, or take new temporary keys) and repeat "
        "the command.",
        "AWS 凭证已过期。请重新登录（`aws sso login`，或换新的临时密钥），然后重试。",
    ),
    (
        "refused_credentials",
        MEND,
        "AWS does not accept these credentials in {region}. Check the keys and the machine's clock; keys of aws "
        "and of aws-cn "
        "are different accounts, and some regions must be switched on first.",
        "{region} 不接受这组 AWS 凭证。请检查密钥和本机时钟；aws 与 aws-cn 是不同的账户，有些区域需要先启用。",
    ),
    (
        "not_allowed",
        MEND,
        "These credentials may not do {operation}. Ask for that permission; docs/aws.md lists all that are needed.",
        "这组凭证无权执行 {operation}。请申请该权限；docs/aws.md 列出了所需的全部权限。",
    ),
    (
        "no_endpoint",
        FAILED,
        "Cannot reach {endpoint}. Check the network, a proxy (HTTPS_PROXY) and the name of the region.",
        "无法连接 {endpoint}。请检查网络、代理（HTTPS_PROXY）和区域名称。",
    ),
    (
        "bad_setup",
        MEND,
        "What this machine says of AWS (environment, ~/.aws/config) cannot be used: {reason}.",
        "本机的 AWS 设置（环境变量、~/.aws/config）无法使用：{reason}。",
    ),
    (
        "unknown_region",
        MEND,
        "“{region}” is no region name. Examples: us-east-1, eu-central-1, ap-east-1, cn-north-1.",
        "“{region}”不是区域名称。例如：us-east-1、eu-central-1、ap-east-1、cn-north-1。",
    ),
    (
        "quota",
        MEND,
        "The account's quota of {what} in {region} is used up or zero (new accounts begin with 0). Ask for more, "
        "which can take "
        "a day: aws service-quotas request-service-quota-increase --service-code ec2 --quota-code {quota} "
        "--desired-value {wanted} --region {region}",
        "账户在 {region} 的 {what} 配额已用完或为零（新账户从 0 开始）。请申请提高，可能需要一天："
        "aws service-quotas request-service-quota-increase --service-code ec2 --quota-code {quota} "
        "--desired-value {wanted} --region {region}",
    ),
    (
        "no_capacity",
        FAILED,
        "AWS has no free {instance_type} in {zones} now. Try later, another size (TYPE={other}), another REGION, "
        "or without SPOT.",
        "AWS 目前在 {zones} 没有空闲的 {instance_type}。请稍后再试，或换规格（TYPE={other}）、换 REGION，或不用 SPOT。",
    ),
    (
        "spot_price",
        MEND,
        "The spot price of {instance_type} is above the most that was offered. Leave the price out, or launch "
        "without SPOT.",
        "{instance_type} 的竞价高于出价上限。请不要指定价格，或不用 SPOT。",
    ),
    (
        "arm",
        MEND,
        "{instance_type} is an ARM machine (Graviton); the image is for x86-64. Use {other} instead.",
        "{instance_type} 是 ARM（Graviton）机型，而镜像是 x86-64 的。请改用 {other}。",
    ),
    (
        "no_gpu_type",
        MEND,
        "{instance_type} has no NVIDIA GPU and would draw on the CPU, minutes a picture. Use one of {known}; "
        "--any-type launches it all the same.",
        "{instance_type} 没有 NVIDIA GPU，只能用 CPU 绘图，每张图要几分钟。请用 {known}；加 --any-type 可以照样启动。",
    ),
    (
        "wrong_architecture",
        MEND,
        "Image {image} is for {architecture} and {instance_type} is not. Choose an x86-64 type such as {other}.",
        "镜像 {image} 面向 {architecture}，而 {instance_type} 不是。请选择 x86-64 机型，例如 {other}。",
    ),
    (
        "type_not_here",
        MEND,
        "{instance_type} is not offered in {region}. Try {other}, or another REGION.",
        "{region} 不提供 {instance_type}。请试 {other}，或换 REGION。",
    ),
    (
        "unknown_base",
        MEND,
        "There is no base “{base}”. Known: {known}.",
        "没有名为“{base}”的基础镜像。可用的有：{known}。",
    ),
    (
        "base_gone",
        MEND,
        "AWS does not offer the base {base} in {region} any more ({pattern}). Build on a supported one:\n    {command}",
        "AWS 在 {region} 已不再提供基础镜像 {base}（{pattern}）。请改用受支持的：\n    {command}",
    ),
    (
        "base_not_for_market",
        MEND,
        "AWS Marketplace refuses images made from {base}: {reason}. Build on a supported one:\n    {command}",
        "AWS Marketplace 不接受由 {base} 制作的镜像：{reason}。请改用受支持的：\n    {command}",
    ),
    (
        "no_image",
        MEND,
        "No image of Danqing is in {region} yet. Make one with `make ami REGION={region}`, or name one with "
        "IMAGE=ami-….",
        "{region} 还没有丹青的镜像。请先运行 `make ami REGION={region}`，或用 IMAGE=ami-… 指定。",
    ),
    (
        "image_missing",
        MEND,
        "Image {image} is not in {region}, or not shared with this account. `make images REGION={region}` lists yours.",
        "{region} 没有镜像 {image}，或它没有共享给本账户。`make images REGION={region}` 会列出您的镜像。",
    ),
    (
        "image_not_ready",
        MEND,
        "Image {image} is {state}. Wait until it is available, or choose another with IMAGE=ami-….",
        "镜像 {image} 的状态是 {state}。请等它可用，或用 IMAGE=ami-… 换一个。",
    ),
    (
        "subscribe",
        MEND,
        "This image comes from AWS Marketplace and the account has not accepted its terms. Open its Marketplace "
        "page, subscribe, and repeat.",
        "此镜像来自 AWS Marketplace，账户尚未接受其条款。请在 Marketplace 页面订阅后重试。",
    ),
    (
        "account_waiting",
        FAILED,
        "AWS is still validating this account in {region}, which takes minutes, at most four hours. Repeat the "
        "command then.",
        "AWS 仍在核验本账户在 {region} 的使用，通常几分钟，最多四小时。请稍后重试。",
    ),
    (
        "cidr_missing",
        MEND,
        "Say who may open the page: CIDR=ADDRESS/32. `curl https://checkip.amazonaws.com` shows your own "
        "address; 0.0.0.0/0 is everybody.",
        "请指明谁可以打开页面：CIDR=地址/32。`curl https://checkip.amazonaws.com` 显示您自己的地址；0.0.0.0/0 "
        "表示所有人。",
    ),
    (
        "bad_value",
        MEND,
        "{field} is “{value}”; {reason}.",
        "{field} 的值“{value}”不行：{reason}。",
    ),
    (
        "no_network",
        MEND,
        "{region} has no default network with a subnet that suits ({zone}). Name one with SUBNET=subnet-…, or "
        "make one: aws ec2 create-default-vpc --region {region}",
        "{region} 没有合适的默认网络子网（{zone}）。请用 SUBNET=subnet-… 指定，或新建：aws ec2 "
        "create-default-vpc --region {region}",
    ),
    (
        "key_missing",
        MEND,
        "There is no key pair “{key}” in {region}. `aws ec2 describe-key-pairs --region {region}` lists them; "
        "without KEY you reach the box through Session Manager.",
        "{region} 没有密钥对“{key}”。`aws ec2 describe-key-pairs --region {region}` 会列出；不给 KEY 时可通过 "
        "Session Manager 登录。",
    ),
    (
        "name_taken",
        MEND,
        "“{name}” is already running as {instance}. Use another NAME, `make terminate NAME={name}`, or REPLACE=1 "
        "to move its data to a new machine.",
        "“{name}”已经在运行（{instance}）。请换 NAME，或 `make terminate NAME={name}`，或用 REPLACE=1 "
        "把数据移到新机器。",
    ),
    (
        "no_instance",
        MEND,
        "No machine named “{name}” is in {region}. `make status REGION={region}` lists them.",
        "{region} 没有名为“{name}”的机器。`make status REGION={region}` 会列出。",
    ),
    (
        "spot_stop",
        MEND,
        "{instance} is a one-time spot machine and cannot be stopped, only terminated: make terminate "
        "NAME={name}. A data volume stays.",
        "{instance} 是一次性竞价机器，不能停止，只能终止：make terminate NAME={name}。数据卷会保留。",
    ),
    (
        "protected",
        MEND,
        "{what} is protected against this. Switch the protection off first: {command}",
        "{what} 受保护。请先关闭保护：{command}",
    ),
    (
        "volume_busy",
        FAILED,
        "Data volume {volume} is still in use by {instance}. Stop that machine first, or use REPLACE=1.",
        "数据卷 {volume} 仍被 {instance} 使用。请先停止那台机器，或用 REPLACE=1。",
    ),
    (
        "volume_elsewhere",
        MEND,
        "Data volume {volume} lies in {zone}, and {subnet} does not. Leave SUBNET out, or name a subnet of {zone}.",
        "数据卷 {volume} 在 {zone}，而 {subnet} 不在。请不要指定 SUBNET，或指定 {zone} 的子网。",
    ),
    (
        "stopped_early",
        FAILED,
        "{instance} went to “{state}” while starting: {reason}. Its console: aws ec2 get-console-output "
        "--instance-id {instance} --region {region} --latest",
        "{instance} 启动时变为“{state}”：{reason}。控制台输出：aws ec2 get-console-output --instance-id "
        "{instance} --region {region} --latest",
    ),
    (
        "not_ready",
        FAILED,
        "{instance} did not get ready within {minutes} minutes; it stays on and costs money. Look at {url}, or "
        "at the console: "
        "aws ec2 get-console-output --instance-id {instance} --region {region} --latest",
        "{instance} 在 {minutes} 分钟内没有就绪；它仍在运行并计费。请查看 {url}，或查看控制台："
        "aws ec2 get-console-output --instance-id {instance} --region {region} --latest",
    ),
    (
        "slow",
        FAILED,
        "AWS answers too slowly or limits the rate of requests ({code}). Wait a minute and repeat.",
        "AWS 响应过慢或限制了请求频率（{code}）。请等一分钟后重试。",
    ),
    (
        "aws",
        FAILED,
        "AWS refused {operation}: {message} ({code}).",
        "AWS 拒绝了 {operation}：{message}（{code}）。",
    ),
)


class CloudError(DanqingError):
    """An error of `KINDS` above."""

    def __init__(self, code: str, /, **params: ParamValue) -> None:
        self.kind = KINDS[code]
        self.params = params
        Exception.__init__(self, self.text("en"))


_PLAIN = {
    "ExpiredToken": "expired",
    "ExpiredTokenException": "expired",
    "RequestExpired": "expired",
    "AuthFailure": "refused_credentials",
    "InvalidClientTokenId": "refused_credentials",
    "UnrecognizedClientException": "refused_credentials",
    "SignatureDoesNotMatch": "refused_credentials",
    "UnauthorizedOperation": "not_allowed",
    "AccessDenied": "not_allowed",
    "AccessDeniedException": "not_allowed",
    "OptInRequired": "subscribe",
    "PendingVerification": "account_waiting",
    "Throttling": "slow",
    "RequestLimitExceeded": "slow",
    "ServiceUnavailable": "slow",
    "Unavailable": "slow",
    "InternalError": "slow",
    "InvalidAMIID.NotFound": "image_missing",
    "InvalidAMIID.Malformed": "image_missing",
    "InvalidAMIID.Unavailable": "image_missing",
    "InvalidKeyPair.NotFound": "key_missing",
    "VolumeInUse": "volume_busy",
    "SpotMaxPriceTooLow": "spot_price",
    "InsufficientInstanceCapacity": "no_capacity",
    "InsufficientHostCapacity": "no_capacity",
    "InsufficientReservedInstanceCapacity": "no_capacity",
}
QUOTAS = {
    "VcpuLimitExceeded": ("G and VT vCPUs", "L-DB2E81BA", 8),
    "InstanceLimitExceeded": ("G and VT vCPUs", "L-DB2E81BA", 8),
    "MaxSpotInstanceCountExceeded": ("G and VT spot vCPUs", "L-3819A6DF", 8),
    "VolumeLimitExceeded": ("gp3 storage in TiB", "L-7A658B76", 50),
    "SecurityGroupLimitExceeded": ("security groups", "L-E79EC296", 2500),
}
"""By AWS's code: what it counts, the quota's code, a value to ask for."""


def explained(error: Exception, **known: ParamValue) -> Exception:
    """The `CloudError` for what boto3 raised, `error` itself where there is none.

    Args:
        known: what the caller knows: region, instance_type, image, key, zones, other.
    """
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    if isinstance(error, boto.ClientError):
        return _of_answer(error, known)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return CloudError("no_credentials")
    if isinstance(error, boto.TokenRetrievalError | boto.SSOTokenLoadError | boto.UnauthorizedSSOTokenError):
        return CloudError("expired")
    if isinstance(error, boto.ProfileNotFound):
        return CloudError("no_profile", profile=str(getattr(error, "kwargs", {}).get("profile", "?")))
    if isinstance(error, boto.InvalidRegionError | boto.NoRegionError):
        return CloudError("unknown_region", region=known.get("region", "?"))
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        return CloudError("no_endpoint", endpoint=_address(error))
    if isinstance(error, ResponseParserError):
        return CloudError("aws", operation="?", message="the answer is not AWS's", code="ResponseParserError")
    if isinstance(error, boto.WaiterError):
        return CloudError("aws", operation="wait", message=str(error), code="Waiter")
    if isinstance(error, boto.BotoCoreError) or (isinstance(error, ValueError) and "ndpoint" in str(error)):
        return CloudError("bad_setup", reason=str(error).rstrip("."))
    return error


def _address(error: Exception) -> str:
    """What did not answer: the service, or the proxy before it."""
    known = getattr(error, "kwargs", {})
    return str(known.get("endpoint_url") or known.get("proxy_url") or known.get("error") or error)


def _of_answer(error: Any, known: Mapping[str, ParamValue]) -> CloudError:
    answer = error.response.get("Error", {})
    code, message = str(answer.get("Code", "?")), str(answer.get("Message", ""))
    operation = str(error.operation_name)
    params = {**known, "code": code, "operation": operation}
    if code in QUOTAS:
        what, quota, wanted = QUOTAS[code]
        return CloudError("quota", **{**params, "what": what, "quota": quota, "wanted": wanted})
    if code in _PLAIN:
        return CloudError(_PLAIN[code], **params)
    if re.search(r"architecture", message) and code in ("InvalidParameterValue", "Unsupported"):
        return CloudError("wrong_architecture", **{"architecture": "x86_64", **params})
    if code == "Unsupported" and "instance type" in message:
        return CloudError("type_not_here", **params)
    if code in ("OperationNotPermitted", "UnsupportedOperation") and "rotect" in message:
        return CloudError("protected", what=operation, command=message)
    return CloudError("aws", operation=operation, message=message.rstrip("."), code=code)
