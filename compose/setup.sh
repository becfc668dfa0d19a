#!/bin/sh
# What the parts of compose.yaml need of each other. Each step may run again: what is there and good is kept.
#
#   setup certificates   the authority, one certificate for both servers, and passwords, each where its reader finds it
#   setup users          the password of kibana_system; API keys for indexing and for setting up
#
# Nothing secret is in an argument or in the environment, where others could read it.
set -eu
secrets=/secrets
elasticsearch=https://elasticsearch:9200
cd /tmp

# Writes standard input to the file $2 with the mode $1; half a file never has that name.
write() {
    rm -f "$2.new"
    (umask 077 && cat >"$2.new")
    chmod "$1" "$2.new"
    mv "$2.new" "$2"
}

# Keeps what is in the file $2, or writes a new random word there.
password() {
    [ -s "$2" ] || openssl rand -hex 24 | write "$1" "$2"
}

certificates() {
    ca=$secrets/setup/ca
    if [ ! -s "$ca.pem" ] || ! openssl x509 -in "$ca.pem" -noout -checkend 2592000 >/dev/null; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 3650 \
            -subj '/CN=logweir compose authority' -addext 'keyUsage=critical,keyCertSign,cRLSign' \
            -keyout ca.key -out ca.pem
        rm -f "$secrets/setup/server.pem"
        write 0400 "$ca.key" <ca.key
        write 0444 "$ca.pem" <ca.pem
        rm -f ca.key
    fi
    server=$secrets/setup/server
    if [ ! -s "$server.pem" ] || ! openssl x509 -in "$server.pem" -noout -checkend 2592000 >/dev/null; then
        printf '%s\n' 'subjectAltName=DNS:elasticsearch,DNS:kibana,DNS:localhost,IP:127.0.0.1' \
            'extendedKeyUsage=serverAuth,clientAuth' 'basicConstraints=critical,CA:FALSE' >server.ext
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=elasticsearch' \
            -keyout server.key -out server.csr
        openssl x509 -req -in server.csr -CA "$ca.pem" -CAkey "$ca.key" -CAserial serial -CAcreateserial -sha256 \
            -days 397 -extfile server.ext -out server.pem
        write 0400 "$server.key" <server.key
        write 0444 "$server.pem" <server.pem
        rm -f server.key
    fi
    for reader in elasticsearch kibana; do
        write 0400 "$secrets/$reader/server.key" <"$server.key"
        write 0444 "$secrets/$reader/server.pem" <"$server.pem"
    done
    for reader in elasticsearch kibana logweir; do
        write 0444 "$secrets/$reader/ca.pem" <"$ca.pem"
    done

    # Elasticsearch takes a password from a file only if nobody else may read it.
    password 0400 "$secrets/elasticsearch/elastic-password"
    for name in kibana-system-password encryption-key saved-objects-key reporting-key; do
        password 0400 "$secrets/setup/$name"
    done
    write 0400 "$secrets/kibana/secrets.yml" <<END
elasticsearch.password: $(cat "$secrets/setup/kibana-system-password")
xpack.security.encryptionKey: $(cat "$secrets/setup/encryption-key")
xpack.encryptedSavedObjects.encryptionKey: $(cat "$secrets/setup/saved-objects-key")
xpack.reporting.encryptionKey: $(cat "$secrets/setup/reporting-key")
END
    echo "certificates and passwords are in place"
}

# Asks Elasticsearch for $2 by the method $1, with standard input as body; $3 is curl's line of who asks.
ask() {
    curl --silent --show-error --fail-with-body --max-time 60 --retry 10 --retry-connrefused \
        --cacert "$secrets/elasticsearch/ca.pem" --request "$1" --header 'content-type: application/json' \
        --data-binary @- --config /dev/fd/3 "$elasticsearch/$2" 3<<END
$3
END
}

as_elastic() {
    ask "$1" "$2" "user = \"elastic:$(cat "$secrets/elasticsearch/elastic-password")\""
}

# Keeps the API key in the file $3 if it is still good, or makes one of the name $2 with the roles in standard input.
api_key() {
    if [ -s "$3" ] && ask GET _security/_authenticate "header = \"authorization: ApiKey $(cat "$3")\"" </dev/null >/dev/null 2>&1; then
        echo "API key $2 is kept"
        return
    fi
    printf '{"name":"%s","owner":true}' "$2" | as_elastic DELETE _security/api_key >/dev/null
    answer=$(as_elastic POST _security/api_key)
    key=$(printf '%s' "$answer" | sed -n 's/.*"encoded" *: *"\([^"]*\)".*/\1/p')
    [ -n "$key" ] || { echo "no API key in what Elasticsearch answered" >&2; exit 1; }
    printf '%s' "$key" | write "$1" "$3"
    echo "API key $2 is made"
}

users() {
    printf '{"password":"%s"}' "$(cat "$secrets/setup/kibana-system-password")" |
        as_elastic POST _security/user/kibana_system/_password >/dev/null
    echo "password of kibana_system is set"
    # Group 10001 is logweir's.
    api_key 0440 logweir "$secrets/logweir/api-key" <<'END'
{
  "name": "logweir",
  "role_descriptors": {
    "index": {
      "cluster": ["monitor"],
      "indices": [{
        "names": ["logs-shop.*", "logs-logweir.*"],
        "privileges": ["create_doc", "auto_configure", "read", "view_index_metadata", "maintenance", "delete"]
      }]
    }
  }
}
END
    api_key 0400 logweir-setup "$secrets/setup/api-key" <<'END'
{
  "name": "logweir-setup",
  "role_descriptors": {
    "setup": {
      "cluster": ["monitor", "manage_index_templates"],
      "applications": [{
        "application": "kibana-.kibana",
        "privileges": ["feature_savedObjectsManagement.all"],
        "resources": ["space:default"]
      }]
    }
  }
}
END
}

case ${1:-} in
    certificates | users) "$1" ;;
    *)
        echo "usage: setup certificates|users" >&2
        exit 64
        ;;
esac
