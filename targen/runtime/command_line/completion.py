"""Completion of the command `targen` in bash: verbs by their names, their arguments by Hydra."""

from collections.abc import Sequence

from targen.runtime.command_line.verbs import VERBS
from targen.runtime.errors import UserError

INSTALL = r"""# To be evaluated: eval "$(targen -sc install=bash)"
_targen() {
  local words word line="${COMP_LINE:0:COMP_POINT}"
  read -ra words <<< "$line"
  [[ "$line" == *" " ]] && words+=("")
  word="${words[-1]}"
  if (( ${#words[@]} <= 2 )); then
    compopt +o nospace
    COMPREPLY=($(compgen -W "@VERBS@" -- "$word"))
  else
    line="targen ${line#*" ${words[1]} "}"
    COMPREPLY=($(compgen -W "$(COMP_LINE="$line" "${words[0]}" "${words[1]}" -sc query=bash 2> /dev/null)" -- "$word"))
  fi
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _targen targen
"""
UNINSTALL = "complete -r targen\nunset -f _targen\n"


def completion_script(arguments: Sequence[str]) -> str:
    """What `-sc install=bash` and `-sc uninstall=bash` print. Raises: UserError for anything else."""
    if list(arguments) == ["install=bash"]:
        return INSTALL.replace("@VERBS@", " ".join(VERBS))
    if list(arguments) == ["uninstall=bash"]:
        return UNINSTALL
    got = " ".join(arguments) or "nothing"
    raise UserError(f"-sc: got {got}, expected install=bash or uninstall=bash. Other shells are not completed.")
