#!/usr/bin/env bash
# Proves that each image of build.sh does what the project's files expect of the official one in its place.
# Everything it starts has one label and is removed at the end, whatever that end is.
set -euo pipefail
cd "$(dirname "$0")"

exec </dev/null
lines=$(./build.sh --env)
eval "$lines"
: "${GO_IMAGE:?}" "${RUNTIME_IMAGE:?}" "${REDIS_IMAGE:?}" "${POSTGRES_IMAGE:?}" "${MAILHOG_IMAGE:?}" "${PROMETHEUS_IMAGE:?}"

id=quickthorn-smoke-$$
label=quickthorn.smoke=$id
network=$id
passed=0 failed=0
work=$(mktemp -d "${TMPDIR:-/tmp}/$id.XXXXXX")
cleanup() {
	docker ps -aq --filter "label=$label" | xargs -r docker rm -fv >/dev/null
	docker volume ls -q --filter "label=$label" | xargs -r docker volume rm >/dev/null
	docker network ls -q --filter "label=$label" | xargs -r docker network rm >/dev/null
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
docker network create --label "$label" "$network" >/dev/null

# What every service of the project is run with.
strict=(--read-only --cap-drop ALL --security-opt no-new-privileges)

# start NAME ARGUMENTS...: a server that goes by NAME in the network.
start() { timeout 60 docker run --detach --label "$label" --network "$network" --network-alias "$1" --name "$id-$1" "${@:2}" >/dev/null; }

# within NAME COMMAND...: a command in a server's container, which is quicker than a container of its own.
within() { timeout 60 docker exec --interactive "$id-$1" "${@:2}"; }

# once ARGUMENTS...: a container that lives for one command.
once() { timeout 120 docker run --rm --interactive --label "$label" --network "$network" "$@"; }

# stop NAME: it ends by itself when it is told to, and is content with that.
stop() {
	timeout 90 docker stop --time 60 "$id-$1"
	[ "$(docker inspect --format '{{.State.ExitCode}}' "$id-$1")" = 0 ]
}

# eventually COMMAND...: tries for a minute.
eventually() {
	local deadline=$((SECONDS + 60))
	until "$@" >"$work/last" 2>&1; do
		if [ "$SECONDS" -ge "$deadline" ]; then
			cat "$work/last"
			return 1
		fi
		sleep 0.2
	done
}

# check TEXT COMMAND...: one line of the result.
check() {
	if "${@:2}" >"$work/out" 2>&1; then
		passed=$((passed + 1))
		echo "ok   $1"
	else
		failed=$((failed + 1))
		echo "FAIL $1"
		sed 's/^/     /' "$work/out"
	fi
}

# says TEXT COMMAND...: the command succeeds, and TEXT is in what it prints.
says() {
	local out
	out=$("${@:2}" 2>&1) || {
		echo "$out"
		return 1
	}
	grep -qF -- "$1" <<<"$out" || {
		echo "no \"$1\" in: $out"
		return 1
	}
}

# refused TEXT COMMAND...: the command fails, and says TEXT.
refused() {
	local out
	if out=$("${@:2}" 2>&1); then
		echo "it succeeded: $out"
		return 1
	fi
	grep -qF -- "$1" <<<"$out" || {
		echo "no \"$1\" in: $out"
		return 1
	}
}

# --- the runtime
small() { [ "$(docker image inspect --format '{{.Size}}' "$RUNTIME_IMAGE")" -le 3000000 ]; }
check "the runtime image has at most 3 MB" small
script() {
	once "${strict[@]}" --user 10001:10001 --tmpfs /tmp "$RUNTIME_IMAGE" sh -eu /dev/stdin <<-'END'
		umask 077
		echo done >/tmp/file
		sleep 60 & kill $!
		echo "$(id -u):$(id -g) $(stat -c %a /tmp/file) $(cat /tmp/file)"
	END
}
check "the runtime image runs a script as somebody unknown" says "10001:10001 600 done" script
check "anybody may write to the /tmp of the runtime image" once --user 10001:10001 "$RUNTIME_IMAGE" touch /tmp/file

# --- Go
hello() {
	once "$GO_IMAGE" sh -euc '
		mkdir /tmp/hello; cd /tmp/hello
		cat >main.go
		go mod init example.org/hello 2>/dev/null
		CGO_ENABLED=0 go build -o /tmp/program .
		cat /tmp/program' >"$work/hello" <<-'END'
		package main

		import "fmt"

		func main() { fmt.Println("hello from a static program") }
	END
	docker create --label "$label" --name "$id-hello" "$RUNTIME_IMAGE" /hello >/dev/null
	chmod 755 "$work/hello"
	docker cp -q "$work/hello" "$id-hello:/hello"
	says "hello from a static program" docker start --attach "$id-hello"
}
download() {
	# The module settings of the caller, as the project's Dockerfiles take them by build arguments.
	local settings=() name
	for name in GOPROXY GONOSUMDB GOPRIVATE GOSUMDB GOINSECURE http_proxy https_proxy no_proxy; do
		[ -z "${!name-}" ] || settings+=(--env "$name")
	done
	timeout 120 docker run --rm --label "$label" "${settings[@]}" "$GO_IMAGE" sh -euc '
		mkdir /tmp/module; cd /tmp/module
		go mod init example.org/module 2>/dev/null
		go mod edit -require golang.org/x/sync@v0.12.0
		go mod download golang.org/x/sync
		ls /go/pkg/mod/golang.org/x/sync@v0.12.0'
}
check "what the Go image builds runs in the runtime image" hello
check "the Go image downloads a module on the default network" says "errgroup" download
check "the Go image is of this machine's Go" says "$(cd / && GOTOOLCHAIN=local go env GOVERSION)" once "$GO_IMAGE" go version

# --- Redis
docker volume create --label "$label" "$id-redis" >/dev/null
start redis --user 999:999 "${strict[@]}" --volume "$id-redis:/data" "$REDIS_IMAGE" redis-server --requirepass secret --appendonly yes
start redis-plain "$REDIS_IMAGE"
start redis-options "$REDIS_IMAGE" --maxclients 256
redis() { within redis-plain redis-cli -h "$@"; }
check "Redis answers who has its password, as 999 on a read-only root" eventually says PONG redis redis -a secret PING
check "Redis refuses who has not" says NOAUTH redis redis PING
check "Redis keeps a value" says OK redis redis -a secret SET color green
check "Redis stops when it is told" stop redis
check "Redis starts again" docker start "$id-redis"
check "Redis has the value still" eventually says green redis redis -a secret GET color
check "Redis without a word of configuration answers other containers" eventually says PONG redis redis-plain PING
check "Redis started by root does not stay root" says 999 within redis-plain stat -c %u /proc/1
check "Redis takes options alone" eventually says 256 redis redis-options CONFIG GET maxclients

# --- PostgreSQL
docker volume create --label "$label" "$id-postgres" >/dev/null
printf 'a secret' >"$work/password"
chmod 644 "$work/password"
chmod 755 "$work"
postgres_args=(--user 999:999 "${strict[@]}" --tmpfs /tmp --tmpfs /var/run/postgresql:mode=1777 --volume "$id-postgres:/var/lib/postgresql/data"
	--volume "$work/password:/run/secrets/password:ro" --env POSTGRES_USER=quickthorn --env POSTGRES_DB=events
	--env POSTGRES_PASSWORD_FILE=/run/secrets/password)
start postgres "${postgres_args[@]}" "$POSTGRES_IMAGE" postgres -c max_connections=17
cat >"$work/init.sql" <<<"CREATE TABLE filled AS SELECT 'by a script' AS how"
start postgres-root --env POSTGRES_PASSWORD=other --volume "$work/init.sql:/docker-entrypoint-initdb.d/10.sql:ro" "$POSTGRES_IMAGE"
query() { within postgres-root env PGCONNECT_TIMEOUT=5 "PGPASSWORD=$1" psql -h postgres -U quickthorn -d events -Atc "$2"; }
check "PostgreSQL makes its database as 999 on a read-only root" eventually within postgres pg_isready -h 127.0.0.1 -U quickthorn -d events
check "PostgreSQL answers who has its password" says 42 query "a secret" "SELECT 6*7"
check "PostgreSQL refuses who has not" refused "password authentication failed" query wrong "SELECT 1"
check "PostgreSQL passes its options on" says 17 query "a secret" "SHOW max_connections"
check "PostgreSQL keeps a row" query "a secret" "CREATE TABLE kept AS SELECT 'green' AS color"
check "PostgreSQL stops when it is told" stop postgres
check "PostgreSQL starts again" docker start "$id-postgres"
check "PostgreSQL has the row still" eventually says green query "a secret" "SELECT color FROM kept"
check "PostgreSQL without a password says which setting is missing" refused "POSTGRES_PASSWORD" once "$POSTGRES_IMAGE"
check "PostgreSQL runs the scripts of a first start" eventually says "by a script" within postgres-root psql -h 127.0.0.1 -U postgres -Atc "SELECT how FROM filled"
check "PostgreSQL started by root does not stay root" says 999 within postgres-root stat -c %u /proc/1

# --- Mailpit
start mailhog --user 10001:10001 "${strict[@]}" --tmpfs /tmp --env MP_MAX_MESSAGES=50 "$MAILHOG_IMAGE"
start client "$RUNTIME_IMAGE" sleep 3600
web() { within client timeout 10 wget -qO- "$@"; }
mail() { # a mail, with the ends of line that the protocol wants
	sed 's/$/\r/' <<-'END' | within client nc -w 10 mailhog 1025
		HELO smoke.example
		MAIL FROM:<smoke@example.org>
		RCPT TO:<operator@example.org>
		DATA
		From: smoke@example.org
		To: operator@example.org
		Subject: proof of mail

		It arrived.
		.
		QUIT
	END
}
check "the mail server is ready, and found by its name" eventually web http://mailhog:8025/readyz
check "the mail server is healthy by its own word" within mailhog /mailpit readyz
check "the mail server has a wget for health checks" within mailhog wget -qO- http://127.0.0.1:8025/livez
check "the mail server takes a mail" says "250" mail
check "the mail server shows the mail" eventually says "proof of mail" web http://mailhog:8025/api/v1/messages

# --- Prometheus
cat >"$work/prometheus.yml" <<-'END'
	scrape_configs:
	  - job_name: itself
	    scrape_interval: 1s
	    static_configs: [{targets: ["prometheus:9090"]}]
END
start prometheus "${strict[@]}" --volume "$work/prometheus.yml:/etc/prometheus/prometheus.yml:ro" "$PROMETHEUS_IMAGE" \
	--config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/prometheus --storage.tsdb.retention.time=1h
check "Prometheus is ready" eventually web http://prometheus:9090/-/ready
check "Prometheus scrapes" eventually says '"1"]' web "http://prometheus:9090/api/v1/query?query=up"
check "promtool checks a configuration" says "is valid prometheus config" within prometheus promtool check config /etc/prometheus/prometheus.yml
check "Prometheus does not run as root" says 65534 within prometheus id -u

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
