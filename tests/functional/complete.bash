#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# complete.bash - what bash would offer for a command line, by its own machinery
#
# usage: complete.bash COMPLETIONS LINE    the line up to the cursor; words are split at blanks
#
# The command's completion is loaded as in a shell: by the library's loader, from COMPLETIONS, when
# the command is completed for the first time.
dir=$1 line=$2
export BASH_COMPLETION_USER_DIR=$dir
set --
# shellcheck source=/dev/null
source /usr/share/bash-completion/bash_completion || exit 2

read -ra COMP_WORDS <<<"$line"
[[ $line != *" " ]] || COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
# shellcheck disable=SC2034 # the library reads them
COMP_LINE=$line COMP_POINT=${#line} COMP_TYPE=9 COMP_KEY=9
command=${COMP_WORDS[0]}
_completion_loader "$command"
[[ $(complete -p "$command") =~ -F\ ([a-zA-Z0-9_]+) ]] || exit 3
previous=
[ "$COMP_CWORD" = 0 ] || previous=${COMP_WORDS[COMP_CWORD - 1]}
"${BASH_REMATCH[1]}" "$command" "${COMP_WORDS[COMP_CWORD]}" "$previous"
printf '%s\n' "${COMPREPLY[@]}"
