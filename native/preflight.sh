#!/bin/sh
# Looks for what a bare machine lacks to build kvmbind, and names the one command that installs it on Debian.
#
# usage: native/preflight.sh            check; $PYTHON chooses the interpreter
#        native/preflight.sh --python   print the interpreter that the build uses
set -u

CANDIDATES='python3 python3.13 python3.12 python3.11'

# Python 3.11 or newer that really runs: a version manager's shim can exist and only print an error.
runs() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-$CANDIDATES}; do
        if runs "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

has_command() {
    command -v "$1" >/dev/null 2>&1
}

has_libc_headers() {
    printf '#include <stdio.h>\n#include <linux/kvm.h>\n' | gcc -fsyntax-only -x c - 2>/dev/null
}

has_python_headers() {
    "$1" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' 2>/dev/null
}

has_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

missing='' packages=''

lacks() { # WHAT PACKAGE...
    missing="$missing${missing:+, }$1"
    shift
    packages="$packages $*"
}

if [ "${1-}" = --python ]; then
    find_python
    exit
fi

has_command git || lacks git git
has_command make || lacks make make
if ! has_command gcc; then
    lacks 'gcc and the C library headers' gcc libc6-dev
elif ! has_libc_headers; then
    lacks 'the C library headers' libc6-dev
fi
if python=$(find_python); then
    # Debian names the packages after the interpreter: python3-dev, python3.12-dev.
    case ${python##*/} in
        python3*) name=${python##*/} ;;
        *) name=python3 ;;
    esac
    has_python_headers "$python" || lacks "the C headers of $python" "$name-dev"
    has_venv "$python" || lacks "venv and ensurepip for $python" "$name-venv"
elif [ -n "${PYTHON-}" ]; then
    echo "kvmbind: PYTHON=$PYTHON does not run, or is older than Python 3.11" >&2
    exit 1
else
    lacks 'Python 3.11 or newer' python3 python3-dev python3-venv
fi

if [ -n "$missing" ]; then
    sudo=sudo
    [ "$(id -u)" -ne 0 ] || sudo=
    echo "kvmbind: this machine lacks $missing. On Debian this installs it:" >&2
    echo "    ${sudo:+$sudo }apt-get update && ${sudo:+$sudo }apt-get install -y$packages" >&2
    exit 1
fi
