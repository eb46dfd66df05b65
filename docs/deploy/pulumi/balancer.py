"""The load balancer: the only thing that the world can reach, by TLS, with a way to the API and to nothing else."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws
from instances import IDLE_SECONDS
from network import API_PORT, Network


def targets(network: Network) -> aws.lb.TargetGroup:
    return aws.lb.TargetGroup(
        "api",
        port=API_PORT,
        protocol="HTTP",
        vpc_id=network.vpc.id,
        # Requests have 30 seconds to end.
        deregistration_delay=40,
        health_check={
            "path": "/readyz",
            "interval": 10,
            "timeout": 5,
            "healthy_threshold": 2,
            "unhealthy_threshold": 3,
        },
    )


def build(network: Network, certificate: str, group: aws.lb.TargetGroup) -> aws.lb.LoadBalancer:
    balancer = aws.lb.LoadBalancer(
        "sluice",
        internal=False,
        load_balancer_type="application",
        subnets=[subnet.id for subnet in network.public],
        security_groups=[network.groups["balancer"].id],
        # Longer than ?wait=30, and than the pause between two lines of a stream.
        idle_timeout=IDLE_SECONDS,
        drop_invalid_header_fields=True,
        enable_deletion_protection=True,
    )
    secure = aws.lb.Listener(
        "https",
        load_balancer_arn=balancer.arn,
        port=443,
        protocol="HTTPS",
        ssl_policy="ELBSecurityPolicy-TLS13-1-2-2021-06",
        certificate_arn=certificate,
        default_actions=[{"type": "forward", "target_group_arn": group.arn}],
    )
    aws.lb.Listener(
        "http",
        load_balancer_arn=balancer.arn,
        port=80,
        protocol="HTTP",
        default_actions=[
            {"type": "redirect", "redirect": {"port": "443", "protocol": "HTTPS", "status_code": "HTTP_301"}}
        ],
    )
    # Figures are for those who come from inside.
    aws.lb.ListenerRule(
        "figures",
        listener_arn=secure.arn,
        priority=1,
        conditions=[{"path_pattern": {"values": ["/metrics"]}}],
        actions=[{"type": "fixed-response", "fixed_response": {"content_type": "text/plain", "status_code": "404"}}],
    )
    pulumi.export("balancer", balancer.dns_name)
    return balancer
