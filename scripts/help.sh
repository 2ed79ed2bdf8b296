#!/bin/sh
# Print the targets of a Makefile in groups: lines `##@ Group`, and `target: needs ## what`.
set -eu
awk 'BEGIN { FS = ":.*## " }
    /^##@ / { printf "\n%s\n", substr($0, 5) }
    /^[a-z][a-z-]*:.*## / { printf "  make %-16s %s\n", $1, $2 }' "$1"
