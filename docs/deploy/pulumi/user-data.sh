# What an instance does in its first start, behind a head of NAME='value' lines. No secret is in it: whoever may read user
# data (any process of the instance may) learns names only, and the instance's role opens its own secrets and no others.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y awscli ca-certificates curl git nfs-common python3-venv
if [ "$KIND" = operator ]; then apt-get install -y mariadb-client; fi

useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin sluice
curl -fsS https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem -o "$RDS_CERTIFICATES"

git clone "$REPOSITORY" /opt/sluice
git -C /opt/sluice checkout --detach "$VERSION"
python3 -m venv /opt/sluice/.venv
/opt/sluice/.venv/bin/pip install --require-hashes -r /opt/sluice/requirements.txt

secret() { aws --region "$REGION" secretsmanager get-secret-value --secret-id "$1" --query SecretString --output text; }

umask 077
mkdir -p /etc/sluice/secrets
for name in $SECRETS; do
    secret "sluice/$name" > "/etc/sluice/secrets/$name"
done
if [ -n "$SMTP_SECRET" ]; then
    secret "$SMTP_SECRET" > /etc/sluice/secrets/smtp_url
    mkdir -p /etc/systemd/system/sluice-worker@.service.d
    printf '[Service]\nLoadCredential=smtp_url:/etc/sluice/secrets/smtp_url\nEnvironment=SMTP_URL_FILE=%%d/smtp_url\n' \
        > /etc/systemd/system/sluice-worker@.service.d/50-mail.conf
fi
umask 022

if [ -n "$STORAGE" ]; then
    mkdir -p /var/lib/sluice
    echo "$STORAGE:/ /var/lib/sluice nfs4 nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,_netdev 0 0" >> /etc/fstab
    mount /var/lib/sluice
fi

# The load balancer asks for an instance's health by its address.
ADDRESS=$(hostname -I | cut -d ' ' -f 1)
cat > /etc/sluice/sluice.env <<END
API_BIND=$API_BIND
API_KEEP_ALIVE=$API_KEEP_ALIVE
SLUICE_PROXIES=$BALANCERS
SLUICE_HOSTS=$HOST,$ADDRESS
SLUICE_STORAGE_DIR=/var/lib/sluice
MAIL_FROM=$MAIL_FROM
END

cd /opt/sluice/docs/deploy/systemd
cp -r sluice*.service sluice.target sluice*.service.d /etc/systemd/system/
install -m 0755 sluice-ledger /usr/local/sbin/
systemctl daemon-reload
systemctl enable sluice.target
for unit in $UNITS; do systemctl enable "$unit"; done
systemctl start sluice.target
