# A new data folder is set up by a server without a network, which then makes way for the one that was asked for.
set -eu
if [ ! -d /var/lib/mysql/mysql ]; then
    "$@" --initialize-insecure
    "$@" --daemonize --skip-networking
    password=$(cat "$MYSQL_ROOT_PASSWORD_FILE")
    mysql --user=root <<SQL
ALTER USER 'root'@'localhost' IDENTIFIED BY '$password';
CREATE USER 'root'@'%' IDENTIFIED BY '$password';
GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
SQL
    MYSQL_PWD=$password mysqladmin --user=root shutdown
fi
exec "$@"
