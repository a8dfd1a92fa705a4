#!/usr/bin/env bash
# Look up every locked dependency in OSV, the database of known vulnerabilities. Exits 0 when
# none is known, 1 when some are, and 75 when it cannot be reached: then nothing was audited.
set -uo pipefail
cd "$(dirname "$0")/.."
venv=build/audit

if [ ! -x "$venv/bin/pip-audit" ]; then
    "${PYTHON:-python3}" -m venv "$venv" &&
        "$venv/bin/pip" --disable-pip-version-check --quiet install "pip-audit==2.10.1" ||
        { echo "not audited: pip-audit cannot be installed"; exit 75; }
fi

worst=0
for lock in locks/serve.txt locks/dev.txt; do
    # --strict: a package that could not be looked up is no success.
    said=$("$venv/bin/pip-audit" --strict --disable-pip --progress-spinner off --timeout 15 \
        --vulnerability-service osv -r "$lock" 2>&1)
    status=$?
    # 1 is also its status when the database does not answer.
    if [ $status -ne 0 ] && ! grep -q "^Found .* known vulnerabilit" <<<"$said"; then
        echo "$lock: not audited, the database cannot be reached; pip-audit said last:"
        tail -n 1 <<<"$said" | cut -c 1-200
        worst=75
        continue
    fi
    echo "$lock:"
    echo "$said"
    [ $status -gt $worst ] && worst=$status
done
exit $worst
