"""What a shell needs to complete `jaxasr ...`: a script with every command, its options and their choices.

The script has all of it in a table, so that a key press starts no Python. A line of the table is a condition, `-` or
choices such as `task=asr,encoder=sanm`, and the options that there are under it: `NAME` for a flag, `NAME=` and behind
it what may stand there, divided by `|`; `/` is any file.
"""

import functools
import importlib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from jaxasr.command_line import flags_of
from jaxasr.config import flat_slot, is_optional, option_fields, sections, slots
from jaxasr.errors import ConfigError
from jaxasr.registry import did_you_mean

FILES = "/"
SHELLS = ("bash", "zsh")


def script(shell: str, modules: Mapping[str, str]) -> str:
    """What `shell` reads; `modules` has the module of each command.

    Raises:
      ConfigError: a shell that there is no script for.

    >>> script("zsh", {}).splitlines()[-1]
    'compdef _jaxasr jaxasr'
    """
    if shell not in SHELLS:
        raise ConfigError(
            f"--completion {shell or '(nothing)'}: one of {', '.join(SHELLS)} was expected; name your shell."
            f"{did_you_mean(shell, SHELLS)}"
        )
    commands = {**modules, "--completion": ""}
    tables = "".join(
        f"{name})\n    cat <<'END'\n{_table(name, module)}\nEND\n    ;;\n" for name, module in commands.items()
    )
    common = _OFFERS.replace("@COMMANDS@", " ".join(modules)).replace("@TABLES@\n", tables)
    return common + {"bash": _BASH, "zsh": _ZSH}[shell]


# --- the table ---------------------------------------------------------------------------------------------------


def _table(command: str, module: str) -> str:
    if command == "--completion":
        return f"- ={'|'.join(SHELLS)}"
    if command == "train":
        from jaxasr.train_config import TrainConfig

        also = ("-", f"config={'|'.join([*_recipes(), FILES])}", "print_config", "help")
        return "\n".join(map(" ".join, [also, *_of_slots(TrainConfig, "", ())]))
    cls = getattr(importlib.import_module(module), f"{command.title()}Options")
    return " ".join(["-", *_of_flags(cls), "help"])


def _recipes() -> list[str]:
    from jaxasr.recipes import RECIPES

    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def _of_slots(cls: type, prefix: str, chosen: tuple[str, ...]) -> Iterator[list[str]]:
    """A line for the options of `cls`, and one for each choice of a slot: of those that come with it."""
    hints, registries, inner = typing.get_type_hints(cls), slots(cls), sections(cls)
    line, deeper = [",".join(chosen) or "-"], []
    for name in option_fields(cls):
        path = prefix + name
        if name in registries:
            names = [*registries[name], *["none"] * is_optional(cls, name)]
            line.append(f"{path}={'|'.join(names)}")
            under = prefix if name == flat_slot(cls) else f"{path}."
            deeper += [(registries[name][entry], under, (*chosen, f"{path}={entry}")) for entry in registries[name]]
        elif name in inner:
            line.append(f"{path}={FILES if name == 'init' else ''}")
            deeper.append((inner[name], f"{path}.", chosen))
        else:
            path = "import" if path == "imports" else path
            line.append(f"{path}={'|'.join(_values(name, hints[name], ('true', 'false')))}")
    yield line
    for part in deeper:
        yield from _of_slots(*part)


def _of_flags(cls: type) -> Iterator[str]:
    """The options of a command's dataclass."""
    for name, hint in flags_of(cls):
        yield name if hint is bool else f"{name}={'|'.join(_values(name, hint, ()))}"


def _values(name: str, hint: Any, switch: tuple[str, ...]) -> list[str]:
    """What may stand behind an option: names, files, or what no shell can know."""
    if name in (known := _known_names()):
        return known[name]
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType, tuple) else (hint,)
    found: list[str] = []
    for kind in kinds:
        found += map(str, typing.get_args(kind)) if typing.get_origin(kind) is Literal else []
        found += switch if kind is bool else []
    if found:
        return [*found, *["none"] * (type(None) in kinds)]
    return [FILES] if str in kinds and name not in ("imports", "import") else []


@functools.cache
def _known_names() -> dict[str, list[str]]:
    """Names that options take as text."""
    from jaxasr.data.cleaners import CLEANERS
    from jaxasr.outputs.formats import FORMATS
    from jaxasr.tasks import TASKS

    searches = dict.fromkeys(search for task in TASKS for search in TASKS[task]().searches())
    return {"cleaners": list(CLEANERS), "formats": list(FORMATS), "search": list(searches)}


# --- the script --------------------------------------------------------------------------------------------------

_OFFERS = r"""# Completion of jaxasr's command line; made by `jaxasr --completion` for this version of it.

_jaxasr_table() {
    case $1 in
@TABLES@
    esac
}

# Options that go with what is chosen: COMMAND ' NAME=CHOICE ...'.
_jaxasr_options() {
    local condition rest one
    _jaxasr_table "$1" | while read -r condition rest; do
        for one in ${condition//,/ }; do
            case $2 in *" ${one%%=*}="*) case $2 in *" $one "*) ;; *) continue 2 ;; esac ;; esac
        done
        printf '%s\n' $rest
    done | sort -u
}

# What may stand for CURRENT behind `jaxasr WORD...`, a line each, with a space where it is whole; / for files.
_jaxasr_offers() {
    [ -z "${ZSH_VERSION-}" ] || emulate -L sh
    local current=$1 command=${2-} chosen=' ' open='' word option
    if [ $# -lt 2 ]; then
        for word in @COMMANDS@ --help --version --completion; do
            case $word in "$current"*) printf '%s \n' "$word" ;; esac
        done
        return
    fi
    shift 2
    for word in "$@"; do
        case $word in
        --*=*) open='' chosen="$chosen${word#--} " ;;
        --*) open=${word#--} ;;
        *) [ -z "$open" ] || chosen="$chosen$open=$word " ;;
        esac
    done
    case $current in
    --*=*) open=${current%%=*} open=${open#--} current=${current#*=} ;;
    -*) _jaxasr_names "$command" "$chosen" "${current#--}" && return ;;
    esac
    open=$(printf %s "$open" | tr - _)
    word=/
    _jaxasr_options "$command" "$chosen" | {
        while read -r option; do
            case $option in "$open="*) word="${word#/}|${option#*=}" ;; esac
        done
        for option in ${word//|/ }; do
            case $option in /) echo / ;; "$current"*) printf '%s \n' "$option" ;; esac
        done
    } | sort -u
}

# The names of options that begin with TYPED, to the next dot: COMMAND CHOSEN TYPED.
_jaxasr_names() {
    local typed=$3 option name rest
    typed=$(printf %s "${typed#-}" | tr - _)
    _jaxasr_options "$1" "$2" | while read -r option; do
        name=${option%%=*} rest=${option%%=*}
        case $name in "$typed"*) rest=${name#"$typed"} ;; *) continue ;; esac
        case $rest in
        *.*) echo "--$typed${rest%%.*}." ;;
        *) case $option in *=*) echo "--$name=" ;; *) echo "--$name " ;; esac ;;
        esac
    done | sort -u
}
"""

_BASH = r"""
_jaxasr() {
    local IFS=$'\n' words=() word offer files='' i
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((${#words[@]})) && [[ $word == = || ${COMP_WORDS[i - 1]} == = ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
    done
    word=${words[${#words[@]} - 1]}
    unset "words[${#words[@]} - 1]"
    COMPREPLY=()
    while read -r offer; do
        if [[ $offer == / ]]; then files=1; else COMPREPLY+=("$offer"); fi
    done < <(IFS=$' \t\n' && _jaxasr_offers "$word" ${words[@]+"${words[@]}"})
    if [[ $files ]]; then
        compopt -o filenames +o nospace 2>/dev/null
        COMPREPLY=(${COMPREPLY[@]+"${COMPREPLY[@]% }"} $(compgen -f -- "${word#--*=}"))
    fi
}
complete -o nospace -F _jaxasr jaxasr
"""

_ZSH = r"""
_jaxasr() {
    local offer
    local -a offers
    offers=("${(@f)$(_jaxasr_offers "$PREFIX" "${(@)words[2,CURRENT-1]}")}")
    compset -P '--*='
    for offer in $offers; do
        case $offer in
        /) _files ;;
        *' ') compadd -- "${offer% }" ;;
        *) compadd -S '' -- "$offer" ;;
        esac
    done
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _jaxasr jaxasr
"""
