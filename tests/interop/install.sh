#!/usr/bin/env bash
# Installs the real servers, proxies and clients of these tests, on a Debian 12, as root. Starts
# none of them. What is there already is left as it is: run it as often as you like.
#
#   SMTP_PROTO_PEERS   the folder for what cannot be installed beside other mail servers, and for
#                      the packages of Node; /var/cache/smtp-proto-tests without it
set -euo pipefail

FOLDER=${SMTP_PROTO_PEERS:-/var/cache/smtp-proto-tests}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
POLICY=/usr/sbin/policy-rc.d # asked before a package starts its service
export DEBIAN_FRONTEND=noninteractive

CLIENTS=(swaks libnet-ssleay-perl curl msmtp gsasl openssh-client)
SERVERS=(postfix dovecot-core dovecot-submissiond dovecot-lmtpd)
SASL=(libsasl2-modules sasl2-bin) # of Cyrus, for Exim
KERBEROS=(krb5-kdc krb5-admin-server krb5-user dovecot-gssapi
    gcc libc6-dev libkrb5-dev python3-dev) # to build what Python needs for it
PROXIES=(dante-server microsocks tinyproxy squid openssh-server)
# Of the servers that are unpacked: Exim, then OpenSMTPD.
LIBRARIES=(libgnutls-dane0 libidn12 libldap-2.5-0 libmariadb3 libnsl2 libpcre2-8-0 libperl5.36
    libpq5 libsasl2-2 libspf2-2 libsqlite3-0
    libdb5.3 libevent-2.1-7)

refreshed=no
refresh() { # the lists of packages, once, and only if something is missing
    [ $refreshed = yes ] || apt-get update -q || { sleep 10; apt-get update -q; }
    refreshed=yes
}

install_packages() {
    dpkg -s "$@" &>/dev/null && return
    refresh
    [ -e $POLICY ] || {
        trap 'rm -f $POLICY' EXIT
        printf '#!/bin/sh\nexit 101\n' >$POLICY # RC: action forbidden
        chmod +x $POLICY
    }
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    apt-get install -y -q --no-install-recommends "$@"
}

unpack() { # unpack PACKAGE: mail servers exclude each other as packages, but not as files
    [ -e "$FOLDER/$1/done" ] && return
    refresh
    local downloads
    downloads=$(mktemp -d)
    (cd "$downloads" && apt-get -o APT::Sandbox::User=root download -q "$1")
    rm -rf "${FOLDER:?}/$1"
    dpkg -x "$downloads"/*.deb "$FOLDER/$1"
    rm -r "$downloads"
    touch "$FOLDER/$1/done"
}

add_user() { # add_user NAME: one that nobody can log in as
    id "$1" &>/dev/null || useradd --system --user-group --no-create-home \
        --home-dir /nonexistent --shell /usr/sbin/nologin "$1"
}

add_proxy_user() { # dante asks for the passwords of the system: an expired account will do for it
    id smtp-proto-proxy &>/dev/null && return
    add_user smtp-proto-proxy
    echo "smtp-proto-proxy:secret" | chpasswd
    usermod --expiredate 1 smtp-proto-proxy
}

install_node() {
    command -v npm >/dev/null || install_packages nodejs npm
    cmp -s "$HERE/package.json" "$FOLDER/node/done" && return
    mkdir -p "$FOLDER/node"
    cp "$HERE/package.json" "$FOLDER/node/"
    (cd "$FOLDER/node" && npm install --no-audit --no-fund --omit=dev --omit=optional --ignore-scripts)
    cp "$HERE/package.json" "$FOLDER/node/done"
}

mkdir -p "$FOLDER"
chmod 755 "$FOLDER"
install_packages "${CLIENTS[@]}" "${SERVERS[@]}" "${SASL[@]}" "${KERBEROS[@]}" \
    "${PROXIES[@]}" "${LIBRARIES[@]}"
unpack exim4-daemon-heavy
unpack opensmtpd
for user in Debian-exim opensmtpd opensmtpq; do add_user "$user"; done
add_proxy_user
install_node
