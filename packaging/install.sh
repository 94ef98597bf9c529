#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Puts what every package has besides Python code and units into a package's tree: settings, man pages, completions,
# the generator for old systemd, what runs when a kernel is installed, rules and dashboards, and the hosts and histories
# that the documentation shows. Used by debian/rules and by the RPM spec.
#
#   packaging/install.sh TREE MADE SETTINGS HOSTS
#     TREE      the package's root
#     MADE      what make_man.py has made
#     SETTINGS  /etc/default or /etc/sysconfig
#     HOSTS     where the code has its captured hosts, seen from /usr/share/tdx-headroom
set -eu
tree=$1 made=$2 settings=$3 hosts=$4
share=$tree/usr/share

put() { # FOLDER FILE...
  folder=$1
  shift
  for file; do
    [ -f "$file" ] || continue # a pattern that matches nothing
    install -D -p -m 644 "$file" "$folder/${file##*/}"
  done
}

put "$tree$settings" packaging/etc/tdx-headroom packaging/etc/tdx-headroom-textfile
put "$share/man/man7" "$made"/*.7 "$made"/*.7.gz
put "$share/man/man8" "$made"/*.8 "$made"/*.8.gz
put "$share/bash-completion/completions" "$made/tdx-headroom"
put "$share/zsh/vendor-completions" "$made/_tdx-headroom"
install -D -m 755 systemd/generators/tdx-headroom "$tree/usr/lib/systemd/system-generators/tdx-headroom"
put "$share/tdx-headroom/systemd" systemd/drop-ins/*.conf
put "$share/tdx-headroom/motd" packaging/motd/*.sh
hooks=packaging/kernel-hooks
install -D -p -m 755 $hooks/say-next-boot "$share/tdx-headroom/kernel-hooks/say-next-boot"
install -D -p -m 755 $hooks/99-tdx-headroom.install "$tree/usr/lib/kernel/install.d/99-tdx-headroom.install"
put "$share/tdx-headroom/mixin" packaging/mixin/*.libsonnet
for folder in prometheus grafana kubernetes/base kubernetes/kernel-log kubernetes/boots kubernetes/boots/sidecar \
  kubernetes/boots/of-host kubernetes/boots/read-only kubernetes/kured kubernetes/kured/alerts kubernetes/kured/hold sos; do
  put "$share/tdx-headroom/$folder" "packaging/$folder"/*.yml "packaging/$folder"/*.yaml "packaging/$folder"/*.json \
    "packaging/$folder"/*.py
done
put "$share/tdx-headroom/history" tests/history/*.json tests/history/*.jsonl
ln -s "$hosts" "$share/tdx-headroom/hosts"
