"""The servers: MySQL on RDS, RabbitMQ on Amazon MQ, Redis on ElastiCache, and a file system for all instances."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import vault
from network import Network

from cli.credentials import Credentials
from cli.servers import redis as rights


@dataclass(frozen=True)
class Servers:
    mysql: aws.rds.Instance
    rabbitmq: aws.mq.Broker
    redis: aws.elasticache.ReplicationGroup
    storage: aws.efs.FileSystem


def build(network: Network, config: pulumi.Config, credentials: pulumi.Output[Credentials]) -> Servers:
    return Servers(
        _mysql(network, config.require("databaseClass")),
        _rabbitmq(network, config.require("brokerClass"), credentials),
        _redis(network, config.require("redisClass"), credentials),
        _storage(network),
    )


def _mysql(network: Network, size: str) -> aws.rds.Instance:
    """The standby of a Multi-AZ instance has the same disk, block by block, prepared branches and decisions on it."""
    parameters = aws.rds.ParameterGroup(
        "mysql",
        family="mysql8.4",
        parameters=[
            # A decision that a power cut can take back is no decision.
            {"name": "innodb_flush_log_at_trx_commit", "value": "1"},
            {"name": "sync_binlog", "value": "1"},
            {"name": "require_secure_transport", "value": "1"},
            {"name": "character_set_server", "value": "utf8mb4"},
            {"name": "collation_server", "value": "utf8mb4_unicode_ci"},
            {"name": "max_connections", "value": "500"},
        ],
    )
    return aws.rds.Instance(
        "mysql",
        engine="mysql",
        engine_version="8.4",
        instance_class=size,
        parameter_group_name=parameters.name,
        allocated_storage=100,
        max_allocated_storage=1000,
        storage_type="gp3",
        storage_encrypted=True,
        multi_az=True,
        publicly_accessible=False,
        db_subnet_group_name=aws.rds.SubnetGroup("mysql", subnet_ids=[each.id for each in network.private]).name,
        vpc_security_group_ids=[network.groups["mysql"].id],
        username="admin",
        # RDS makes it up, keeps it in Secrets Manager and changes it; only the operator's instance may read it.
        manage_master_user_password=True,
        backup_retention_period=14,
        copy_tags_to_snapshot=True,
        deletion_protection=True,
        skip_final_snapshot=False,
        final_snapshot_identifier="sluice-final",
        enabled_cloudwatch_logs_exports=["error"],
        auto_minor_version_upgrade=False,
        opts=pulumi.ResourceOptions(protect=True),
    )


def _rabbitmq(network: Network, size: str, credentials: pulumi.Output[Credentials]) -> aws.mq.Broker:
    configuration = aws.mq.Configuration(
        "rabbitmq",
        engine_type="RabbitMQ",
        engine_version="4.2",
        # Its own 30 minutes would take a long task away from the worker that is at it.
        data="consumer_timeout = 86400000\n",
    )
    return aws.mq.Broker(
        "rabbitmq",
        broker_name="sluice",
        engine_type="RabbitMQ",
        engine_version="4.2",
        host_instance_type=size,
        deployment_mode="CLUSTER_MULTI_AZ",
        configuration={"id": configuration.id, "revision": configuration.latest_revision},
        publicly_accessible=False,
        subnet_ids=[each.id for each in network.private],
        security_groups=[network.groups["rabbitmq"].id],
        auto_minor_version_upgrade=True,
        logs={"general": True},
        users=[
            {
                "username": vault.BROKER_ADMIN,
                "password": credentials.apply(lambda kept: kept.of("rabbitmq", vault.BROKER_ADMIN)),
            }
        ],
    )


def _redis(
    network: Network, size: str, credentials: pulumi.Output[Credentials]
) -> aws.elasticache.ReplicationGroup:
    nobody = aws.elasticache.User(
        "default-off",
        user_id="sluice-default-off",
        user_name="default",
        engine="redis",
        access_string="off -@all",
        authentication_mode={"type": "no-password-required"},
    )
    users = [
        aws.elasticache.User(
            user,
            user_id=user.replace("_", "-"),
            user_name=user,
            engine="redis",
            access_string=f"on ~sluice:* -@all +@connection {commands} -@dangerous",
            authentication_mode={
                "type": "password",
                "passwords": [credentials.apply(lambda kept, user=user: kept.of("redis", user))],
            },
        )
        for user, commands in rights._RIGHTS.items()
    ]
    members = aws.elasticache.UserGroup(
        "redis",
        user_group_id="sluice",
        engine="redis",
        user_ids=[nobody.user_id, *(user.user_id for user in users)],
    )
    return aws.elasticache.ReplicationGroup(
        "redis",
        description="Copies of results, and counts of requests",
        engine="redis",
        engine_version="7.1",
        node_type=size,
        num_cache_clusters=2,
        automatic_failover_enabled=True,
        multi_az_enabled=True,
        at_rest_encryption_enabled=True,
        transit_encryption_enabled=True,
        user_group_ids=[members.user_group_id],
        subnet_group_name=aws.elasticache.SubnetGroup(
            "redis", subnet_ids=[each.id for each in network.private]
        ).name,
        security_group_ids=[network.groups["redis"].id],
    )


def _storage(network: Network) -> aws.efs.FileSystem:
    storage = aws.efs.FileSystem("storage", encrypted=True, opts=pulumi.ResourceOptions(protect=True))
    for number, subnet in enumerate(network.private):
        aws.efs.MountTarget(
            f"storage-{number}",
            file_system_id=storage.id,
            subnet_id=subnet.id,
            security_groups=[network.groups["storage"].id],
        )
    return storage
