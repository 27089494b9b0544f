# shellcheck shell=bash
# Sourced by the scripts beside it: commands that are shown or run, and the launcher's own settings.

print='' # --print: every command is shown, none is run
exec 3>&1

say() { printf 'launch: %s\n' "$*" >&2; }

refuse() {
    say "$*"
    exit 2
}

# The comment at the head of the script, for who calls it without arguments.
usage() {
    sed -nE '2,/^(#SBATCH|[^#])/{/^(#SBATCH|[^#])/d;s/^# ?//p;}' "$0" >&2
    exit 2
}

# The words of a command as a POSIX shell reads them, so that they survive ssh and a second shell.
quoted() {
    local word space='' quote="'" escaped="'\\''"
    for word in "$@"; do
        case $word in
            '' | *[!A-Za-z0-9_./:=@%+,-]*) word="'${word//$quote/$escaped}'" ;;
        esac
        printf '%s%s' "$space" "$word"
        space=' '
    done
}

# Runs a command, or shows it.
run() {
    if [ -n "$print" ]; then
        printf '%s\n' "$(quoted "$@")" >&3
    else
        "$@"
    fi
}

# What --print says of steps that depend on how a command ended.
remark() {
    if [ -n "$print" ]; then printf '# %s\n' "$*" >&3; fi
}

# The value of the last --NAME=VALUE or --NAME VALUE of the arguments; nothing where there is none.
setting() {
    local name=$1 value=''
    shift
    while [ $# -gt 0 ]; do
        case $1 in
            "--$name="* | "-$name="*) value=${1#*=} ;;
            "--$name" | "-$name") value=${2-} ;;
        esac
        shift
    done
    printf '%s' "$value"
}

# The file that --config names, without its :variant.
config_file() {
    local value
    value=$(setting config "$@")
    [ -n "$value" ] ||
        refuse "no config given: expected --config FILE, such as --config configs/resnet50.py."
    case $value in
        *.py:*) value=${value%%.py:*}.py ;;
    esac
    printf '%s' "$value"
}
