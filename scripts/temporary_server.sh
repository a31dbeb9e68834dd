# For `source`: starts a server with a database of its own, without rate limits, and stops it when the script exits.
# Takes the interpreter from $python, and sets $url, the server's address, and $home, a folder that is deleted at the end.

home="$(mktemp -d)"
log="$home/serve.log"
server=""

clean_up() {
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    rm -rf "$home"
}
trap clean_up EXIT

port="$("$python" -c 'import socket; probe = socket.socket(); probe.bind(("127.0.0.1", 0)); print(probe.getsockname()[1])')"
url="http://127.0.0.1:$port"
export DEBUG=False HTTPS=False ALLOWED_HOSTS=127.0.0.1 THROTTLE_SCALE=1000000 DRAIN_SECONDS=0 DATABASE_URL="embedded://$home/postgres"
export SECRET_KEY
SECRET_KEY="$("$python" -c 'import secrets; print(secrets.token_urlsafe(50))')"

"$python" manage.py serve "127.0.0.1:$port" >"$log" 2>&1 </dev/null &
server=$!
for _ in $(seq 300); do
    curl --silent --fail --output /dev/null "$url/readyz" && break
    kill -0 "$server" 2>/dev/null || { cat "$log"; exit 1; }
    sleep 0.2
done
