# Run once, in an empty data folder: a database with an owner of its own for each who keeps something here.
for name in dagster mlflow feast; do
  password="${name^^}_PASSWORD"
  psql --set ON_ERROR_STOP=1 --set "name=$name" --set "password=${!password}" --username "$POSTGRES_USER" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
