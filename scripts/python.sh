# Sourced by the scripts beside it: sets $python to an interpreter that is new enough, or ends with a sentence.
# PYTHON=... chooses another one than python3.

python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "$0: $python not found; install Python 3.11 or later (apt-get install python3) or name one: PYTHON=/path/to/python $0" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$0: needs Python 3.11 or later, but $python is $("$python" -V 2>&1); name a newer one: PYTHON=python3.12 $0" >&2
    exit 1
fi
