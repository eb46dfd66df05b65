"""The network: public subnets for the load balancer, private ones for all else, and who may speak to whom."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

ANYWHERE = "0.0.0.0/0"
API_PORT, MYSQL_PORT, AMQPS_PORT, HTTPS_PORT, REDIS_PORT, NFS_PORT = 5000, 3306, 5671, 443, 6379, 2049
#: The kinds of instance, each with the servers that it speaks to.
SPEAKS_TO = {
    "api": {"mysql", "rabbitmq", "redis", "storage"},
    "data": {"mysql", "rabbitmq", "redis", "storage"},
    "email": {"mysql", "rabbitmq", "redis", "storage"},
    "file": {"mysql", "rabbitmq", "redis", "storage"},
    "monitor": {"mysql", "rabbitmq", "redis", "storage"},
    # Connects to where clients say: it may reach the ledger, and nothing else of ours.
    "webhooks": {"mysql"},
    "operator": {"mysql", "rabbitmq"},
}
PORTS = {"mysql": [MYSQL_PORT], "rabbitmq": [AMQPS_PORT], "redis": [REDIS_PORT], "storage": [NFS_PORT]}


@dataclass(frozen=True)
class Network:
    vpc: aws.ec2.Vpc
    public: list[aws.ec2.Subnet]
    private: list[aws.ec2.Subnet]
    #: Of the load balancer, of each kind of instance, and of each server.
    groups: dict[str, aws.ec2.SecurityGroup]


def public_cidr(number: int) -> str:
    """The addresses of the public subnet in a zone."""
    return f"10.20.{number}.0/24"


def build(zones: int) -> Network:
    vpc = aws.ec2.Vpc("sluice", cidr_block="10.20.0.0/16", enable_dns_hostnames=True, tags={"Name": "sluice"})
    # AWS puts one into every VPC, whose members may speak to each other; taken over here, it lets nobody do anything.
    aws.ec2.DefaultSecurityGroup("nobody", vpc_id=vpc.id)
    names = aws.get_availability_zones_output(state="available").names
    public, private = _subnets(vpc, [names[number] for number in range(zones)])
    return Network(vpc, public, private, _groups(vpc))


def _subnets(
    vpc: aws.ec2.Vpc, zones: list[pulumi.Output[str]]
) -> tuple[list[aws.ec2.Subnet], list[aws.ec2.Subnet]]:
    gateway = aws.ec2.InternetGateway("sluice", vpc_id=vpc.id)
    outward = aws.ec2.RouteTable(
        "public", vpc_id=vpc.id, routes=[{"cidr_block": ANYWHERE, "gateway_id": gateway.id}]
    )
    public, private = [], []
    for number, zone in enumerate(zones):
        front = aws.ec2.Subnet(
            f"public-{number}", vpc_id=vpc.id, availability_zone=zone, cidr_block=public_cidr(number)
        )
        behind = aws.ec2.Subnet(
            f"private-{number}", vpc_id=vpc.id, availability_zone=zone, cidr_block=f"10.20.{100 + number}.0/24"
        )
        aws.ec2.RouteTableAssociation(f"public-{number}", subnet_id=front.id, route_table_id=outward.id)
        # One in each zone: the loss of a zone takes nobody else's way out.
        address = aws.ec2.Eip(f"nat-{number}", domain="vpc")
        nat = aws.ec2.NatGateway(f"nat-{number}", subnet_id=front.id, allocation_id=address.id)
        through = aws.ec2.RouteTable(
            f"private-{number}", vpc_id=vpc.id, routes=[{"cidr_block": ANYWHERE, "nat_gateway_id": nat.id}]
        )
        aws.ec2.RouteTableAssociation(f"private-{number}", subnet_id=behind.id, route_table_id=through.id)
        public.append(front)
        private.append(behind)
    return public, private


def _groups(vpc: aws.ec2.Vpc) -> dict[str, aws.ec2.SecurityGroup]:
    groups = {
        name: aws.ec2.SecurityGroup(name, vpc_id=vpc.id, description=f"Sluice, {name}")
        for name in ("balancer", *SPEAKS_TO, *PORTS)
    }
    for port in (80, HTTPS_PORT):
        aws.vpc.SecurityGroupIngressRule(
            f"world-{port}",
            security_group_id=groups["balancer"].id,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            cidr_ipv4=ANYWHERE,
        )
    _allow(groups, "balancer", "api", API_PORT)
    for kind, servers in SPEAKS_TO.items():
        for server in sorted(servers):
            for port in PORTS[server]:
                _allow(groups, kind, server, port)
        # Packages, Secrets Manager, mail servers, receivers of webhooks: outwards only, through the NAT.
        aws.vpc.SecurityGroupEgressRule(
            f"{kind}-out", security_group_id=groups[kind].id, ip_protocol="-1", cidr_ipv4=ANYWHERE
        )
    # RabbitMQ's management, for users and `reconcile`.
    _allow(groups, "operator", "rabbitmq", HTTPS_PORT)
    return groups


def _allow(groups: dict[str, aws.ec2.SecurityGroup], source: str, target: str, port: int) -> None:
    aws.vpc.SecurityGroupIngressRule(
        f"{source}-to-{target}-{port}",
        security_group_id=groups[target].id,
        referenced_security_group_id=groups[source].id,
        ip_protocol="tcp",
        from_port=port,
        to_port=port,
    )
    if source == "balancer":
        aws.vpc.SecurityGroupEgressRule(
            f"{source}-out-{port}",
            security_group_id=groups[source].id,
            referenced_security_group_id=groups[target].id,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
        )
