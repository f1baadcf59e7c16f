# Sourced by the scripts beside it: sets $python to an interpreter that is new enough, or ends with a sentence.
# PYTHON=... chooses another one than python3, or than $preferred where the script sets that and it is new enough.

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'
}

python=${PYTHON:-python3}
if [ -z "${PYTHON:-}" ] && [ -n "${preferred:-}" ] && new_enough "$preferred" 2>/dev/null; then
    python=$preferred
fi
if ! command -v "$python" >/dev/null 2>&1; then
    echo "$0: $python not found; install Python 3.11 or later (apt-get install python3) or name one: PYTHON=/path/to/python $0" >&2
    exit 1
fi
if ! new_enough "$python"; then
    echo "$0: needs Python 3.11 or later, but $python is $("$python" -V 2>&1); name a newer one: PYTHON=python3.12 $0" >&2
    exit 1
fi
