#!/usr/bin/env bash
# Checks the Prometheus files in this directory with promtool: the configuration,
# the rules, the unit tests of the rules, and the expressions in the dashboards and
# the runbooks.
#
#   PROMTOOL      the promtool to use; default: the one in PATH
#   MCPHUB_TOOLS  directory for a downloaded promtool; default: .cache/tools in the
#                 root of the repository
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
tools=${MCPHUB_TOOLS:-$root/.cache/tools}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() { printf '%s\n' "$*" >&2; }

# fetch unpacks the Debian package prometheus without installing it: unpacking needs
# no root, and starts no service.
fetch() (
  cd "$scratch"
  if ! apt-get -qq download prometheus; then
    [[ $(id -u) -eq 0 ]] || return 1
    apt-get -qq update && apt-get -qq download prometheus || return 1
  fi
  mkdir -p "$tools"
  [[ -n ${MCPHUB_TOOLS:-} ]] || echo '*' >"$tools/.gitignore"
  dpkg -x prometheus_*.deb "$tools"
)

find_promtool() {
  if [[ -n ${PROMTOOL:-} ]]; then
    command -v "$PROMTOOL" && return
    say "PROMTOOL=$PROMTOOL is not an executable program."
    return 1
  fi
  command -v promtool && return
  if [[ ! -x $tools/usr/bin/promtool ]] && command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    fetch >"$scratch/fetch.log" 2>&1 || cat "$scratch/fetch.log" >&2
  fi
  if [[ -x $tools/usr/bin/promtool ]]; then
    echo "$tools/usr/bin/promtool"
    return
  fi
  say "promtool is missing. It is part of every Prometheus release (2.42 or newer) and of the"
  say "prometheus package of Debian, Ubuntu and Homebrew. Put it in PATH, or name it: PROMTOOL=/path/to/promtool $0"
  return 1
}

# expressions prints a rule file (JSON is YAML) with every expression of the
# dashboards and of the runbooks, so that promtool can check their syntax.
expressions() {
  {
    jq -r '.. | .targets? // empty | .[].expr' "$root"/grafana/dashboards/*.json |
      sed 's/[$]__rate_interval/1m/g'
    awk '/^ *```promql$/ { on = 1; next } /^ *```$/ { on = 0 } on' "$root"/docs/runbooks/*.md
  } | jq -R . | jq -s '{groups: [{name: "expressions", rules:
      to_entries | map({record: "expression:\(.key + 1)", expr: .value})}]}'
}

promtool=$(find_promtool) || exit 1
"$promtool" --version 2>&1 | head -n 1
cd "$here"
"$promtool" check config prometheus.yml
"$promtool" check rules --lint=all mcphub.rules.yml
"$promtool" test rules mcphub.rules_test.yml
if command -v jq >/dev/null; then
  expressions >"$scratch/expressions.yml"
  echo "Checking the expressions of the dashboards and the runbooks"
  "$promtool" check rules "$scratch/expressions.yml"
else
  say "jq is missing: the expressions of the dashboards and the runbooks were not checked."
fi
