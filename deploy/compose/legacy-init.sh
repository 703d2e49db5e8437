# shellcheck shell=bash
# Read by the MySQL image's entrypoint, once, for an empty data directory: understudy's own account.
docker_process_sql <<SQL
CREATE USER understudy@'%' IDENTIFIED BY '$(cat /run/secrets/primary_password)';
GRANT PROCESS, REPLICATION CLIENT, SHOW VIEW, TRIGGER, SELECT ON *.* TO understudy@'%';
GRANT INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES ON shop.* TO understudy@'%';
SQL
