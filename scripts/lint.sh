#!/bin/sh
# All static checks, with the tools of requirements-dev.txt on the PATH. --fix rewrites what can be rewritten.
set -eu
cd "$(dirname "$0")/.."
format=--check
dry=--dry-run
fix=
if [ "${1:-}" = --fix ]; then
    format= dry=-i fix=--fix
fi
# Unset options must vanish, not become empty arguments.
# shellcheck disable=SC2086
ruff check $fix .
# shellcheck disable=SC2086
ruff format $format .
git ls-files -z 'cpp/*.cpp' 'cpp/*.hpp' | xargs -0 clang-format $dry --Werror
mypy
