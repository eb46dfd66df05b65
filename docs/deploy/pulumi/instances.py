"""The instances: a group of each kind over the zones, started from one image by user data that holds no secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_aws as aws
import vault
from network import API_PORT, Network, public_cidr

#: What an instance of each kind runs.
UNITS: Mapping[str, tuple[str, ...]] = {
    "api": ("sluice-api",),
    "data": ("sluice-worker@data",),
    "email": ("sluice-worker@email",),
    "file": ("sluice-worker@file",),
    "monitor": ("sluice-monitor",),
    "webhooks": ("sluice-webhooks",),
    # Where the operator's commands are run; nobody is there until he is wanted.
    "operator": (),
}
#: How many there are, and how many at most.
SIZES = {
    "api": (2, 6),
    "data": (2, 6),
    "email": (2, 4),
    "file": (2, 4),
    "monitor": (2, 2),
    "webhooks": (2, 2),
    "operator": (0, 1),
}
#: Seconds for which the load balancer keeps a connection that nothing comes over; the API keeps it for longer.
IDLE_SECONDS = 120
MOUNTS = frozenset({"api", "data", "email", "file", "monitor"})
USER_DATA = (Path(__file__).parent / "user-data.sh").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Told:
    """What instances are told, besides their secrets."""

    ami: str
    instance_type: str
    region: str
    zones: int
    repository: str
    version: str
    host: str
    mail_from: str
    smtp_url_secret: aws.secretsmanager.Secret
    storage: aws.efs.FileSystem
    #: RDS's own, for the operator only.
    master_secret_arn: pulumi.Input[str]


def build(
    network: Network,
    secrets: Mapping[str, aws.secretsmanager.Secret],
    told: Told,
    targets: aws.lb.TargetGroup,
) -> dict[str, aws.autoscaling.Group]:
    groups = {kind: _group(kind, network, secrets, told, targets) for kind in UNITS}
    aws.autoscaling.Policy(
        "api",
        autoscaling_group_name=groups["api"].name,
        policy_type="TargetTrackingScaling",
        target_tracking_configuration={
            "predefined_metric_specification": {"predefined_metric_type": "ASGAverageCPUUtilization"},
            "target_value": 60.0,
        },
    )
    return groups


def _group(
    kind: str,
    network: Network,
    secrets: Mapping[str, aws.secretsmanager.Secret],
    told: Told,
    targets: aws.lb.TargetGroup,
) -> aws.autoscaling.Group:
    names = vault.OF_KIND[kind]
    arns: list[pulumi.Input[str]] = [secrets[name].arn for name in names]
    if kind == "email":
        arns.append(told.smtp_url_secret.arn)
    if kind == "operator":
        arns.append(told.master_secret_arn)
    template = aws.ec2.LaunchTemplate(
        kind,
        image_id=told.ami,
        instance_type=told.instance_type,
        iam_instance_profile={"arn": _profile(kind, arns).arn},
        vpc_security_group_ids=[network.groups[kind].id],
        # Version 2 only, and from the instance itself: a request that a client made ours send finds no credentials.
        metadata_options={"http_tokens": "required", "http_endpoint": "enabled", "http_put_response_hop_limit": 1},
        block_device_mappings=[
            {"device_name": "/dev/xvda", "ebs": {"encrypted": "true", "volume_type": "gp3", "volume_size": 20}}
        ],
        user_data=_user_data(kind, names, told),
        update_default_version=True,
    )
    least, most = SIZES[kind]
    return aws.autoscaling.Group(
        kind,
        min_size=least,
        max_size=most,
        vpc_zone_identifiers=[subnet.id for subnet in network.private],
        launch_template={"id": template.id, "version": template.latest_version.apply(str)},
        target_group_arns=[targets.arn] if kind == "api" else None,
        health_check_type="ELB" if kind == "api" else "EC2",
        health_check_grace_period=300,
        # A new version comes one instance after the other, each with its time to end.
        instance_refresh={"strategy": "Rolling", "preferences": {"min_healthy_percentage": 50}},
        tags=[{"key": "Name", "value": f"sluice-{kind}", "propagate_at_launch": True}],
    )


def _profile(kind: str, arns: Sequence[pulumi.Input[str]]) -> aws.iam.InstanceProfile:
    role = aws.iam.Role(
        kind,
        assume_role_policy=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
                ],
            }
        ),
        # People log in by Session Manager: no port, no key.
        managed_policy_arns=["arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"],
    )
    aws.iam.RolePolicy(
        kind,
        role=role.id,
        policy=pulumi.Output.all(*arns).apply(
            lambda found: json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [
                        {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": sorted(found)}
                    ],
                }
            )
        ),
    )
    return aws.iam.InstanceProfile(kind, role=role.name)


def _user_data(kind: str, names: Sequence[str], told: Told) -> pulumi.Output[str]:
    lines = {
        "KIND": kind,
        "UNITS": " ".join(UNITS[kind]),
        "SECRETS": " ".join(names),
        "SMTP_SECRET": "sluice/smtp_url" if kind == "email" else "",
        "REGION": told.region,
        "REPOSITORY": told.repository,
        "VERSION": told.version,
        "HOST": told.host,
        "MAIL_FROM": told.mail_from,
        # Where the load balancer has its addresses.
        "BALANCERS": ",".join(public_cidr(number) for number in range(told.zones)),
        "API_BIND": f"0.0.0.0:{API_PORT}",
        "API_KEEP_ALIVE": str(IDLE_SECONDS + 10),
        "RDS_CERTIFICATES": vault.RDS_CERTIFICATES,
    }

    def script(storage: str) -> str:
        told_here = {**lines, "STORAGE": f"{storage}.efs.{told.region}.amazonaws.com" if kind in MOUNTS else ""}
        head = "\n".join(f"{name}='{value}'" for name, value in told_here.items())
        return base64.b64encode(f"#!/bin/bash\n{head}\n{USER_DATA}".encode()).decode()

    return told.storage.id.apply(script)
