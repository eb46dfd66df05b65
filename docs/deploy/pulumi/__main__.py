"""Sluice on several EC2 instances. docs/deploy/several-servers.md tells how to use it."""

from __future__ import annotations

import balancer
import instances
import network
import pulumi
import pulumi_aws as aws
import servers
import vault

config = pulumi.Config()
net = network.build(config.require_int("zones"))
credentials = vault.kept(config)
built = servers.build(net, config, credentials)

#: "amqps://b-1234.mq.eu-central-1.amazonaws.com:5671"
broker = built.rabbitmq.instances[0].endpoints[0].apply(lambda url: url.removeprefix("amqps://").partition(":")[0])
secrets = vault.build(
    credentials, mysql=built.mysql.address, rabbitmq=broker, redis=built.redis.primary_endpoint_address
)
smtp = aws.secretsmanager.Secret("smtp_url", name="sluice/smtp_url", recovery_window_in_days=7)
aws.secretsmanager.SecretVersion("smtp_url", secret_id=smtp.id, secret_string=config.require_secret("smtpUrl"))

targets = balancer.targets(net)
balancer.build(net, config.require("certificateArn"), targets)
instances.build(
    net,
    secrets,
    instances.Told(
        ami=config.require("ami"),
        instance_type=config.require("instanceType"),
        zones=config.require_int("zones"),
        region=pulumi.Config("aws").require("region"),
        repository=config.require("repository"),
        version=config.require("version"),
        host=config.require("host"),
        mail_from=config.require("mailFrom"),
        smtp_url_secret=smtp,
        storage=built.storage,
        master_secret_arn=built.mysql.master_user_secrets[0].secret_arn,
    ),
    targets,
)
pulumi.export("database", built.mysql.address)
pulumi.export("broker", broker)
pulumi.export("databaseMasterSecret", built.mysql.master_user_secrets[0].secret_arn)
