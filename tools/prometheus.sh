#!/bin/bash
# Prints the folder that holds `prometheus` and `promtool`: where they are on PATH, or Debian's package, unpacked below
# the folder given (nothing is installed on the machine, so it takes no root).
set -eu -o pipefail

tools=$1
mkdir -p "$tools"
if server=$(command -v prometheus) && command -v promtool >/dev/null; then
  dirname "$server"
  exit
fi
for known in "$tools"/prometheus-*/usr/bin; do
  if [[ -x $known/prometheus && -x $known/promtool ]]; then
    echo "$known"
    exit
  fi
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  echo "No prometheus and promtool on PATH, and no apt-get to fetch Debian's package with: install Prometheus." >&2
  exit 1
fi
work=$(mktemp -d "$tools/prometheus.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,package}
# The machine's own lists may be missing or old, and belong to root.
options=(
  -qq -o "Dir::State=$work/state" -o "Dir::State::lists=$work/state/lists" -o "Dir::State::status=/var/lib/dpkg/status"
  -o "Dir::Cache=$work/cache" -o "APT::Sandbox::User=$(id -un)"
)
cd "$work/package"
if ! { apt-get "${options[@]}" update && apt-get "${options[@]}" download prometheus; } >&2; then
  echo "Debian's package prometheus could not be fetched: install Prometheus, so that it is on PATH." >&2
  exit 1
fi
version=$(dpkg-deb --field prometheus_*.deb Version)
dpkg-deb --extract prometheus_*.deb "$work/unpacked"
# A folder that is there is whole.
mv "$work/unpacked" "$tools/prometheus-${version//[^0-9A-Za-z.]/-}"
echo "$tools/prometheus-${version//[^0-9A-Za-z.]/-}/usr/bin"
