#!/usr/bin/env bash
# Starts what it is given. Options alone mean postgres; postgres makes its data directory first where there is none.
set -euo pipefail

# setting NAME DEFAULT: sets NAME to its value, to the content of the file that NAME_FILE names, or to DEFAULT.
setting() {
	local name=$1 file=$1_FILE value
	if [ -n "${!name-}" ] && [ -n "${!file-}" ]; then
		echo "$name and $file are both set: which one is meant?" >&2
		exit 1
	fi
	if [ -n "${!file-}" ]; then
		value=$(<"${!file}")
		printf -v "$name" '%s' "$value"
	elif [ -z "${!name-}" ]; then
		printf -v "$name" '%s' "$2"
	fi
	unset "$file"
}

create() {
	local auth=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256} file
	setting POSTGRES_PASSWORD ''
	setting POSTGRES_USER postgres
	setting POSTGRES_DB "$POSTGRES_USER"
	if [ -z "$POSTGRES_PASSWORD" ] && [ "$auth" != trust ]; then
		echo "POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE has to be set when the data directory is made" >&2
		exit 1
	fi
	local init=(initdb --username="$POSTGRES_USER" --encoding=UTF8 --locale=C.UTF-8)
	# shellcheck disable=SC2206 # several arguments in one variable, as its users write them
	init+=(${POSTGRES_INITDB_ARGS-})
	if [ -n "$POSTGRES_PASSWORD" ]; then
		"${init[@]}" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD")
	else
		"${init[@]}"
	fi
	printf '\nhost all all all %s\n' "$auth" >>"$PGDATA/pg_hba.conf"

	# Nobody else can connect while the database is filled.
	pg_ctl --wait --silent --options="-c listen_addresses=''" start
	local sql=(psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username="$POSTGRES_USER")
	if [ "$POSTGRES_DB" != postgres ]; then
		echo 'CREATE DATABASE :"db";' | "${sql[@]}" --dbname=postgres -v db="$POSTGRES_DB"
	fi
	export POSTGRES_USER POSTGRES_DB POSTGRES_PASSWORD # for the scripts
	for file in /docker-entrypoint-initdb.d/*; do
		case "$file" in
		*.sh) bash "$file" ;;
		*.sql) "${sql[@]}" --dbname="$POSTGRES_DB" --file="$file" ;;
		esac
	done
	unset POSTGRES_PASSWORD
	pg_ctl --wait --silent --mode=fast stop
}

case "${1-}" in
-*) set -- postgres "$@" ;;
esac
if [ "${1-}" = postgres ] && [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA"
	find "$PGDATA" ! -user postgres -exec chown postgres:postgres {} +
	chmod 700 "$PGDATA"
	exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
if [ "${1-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
	create
fi
exec "$@"
