"""Completion: the options of `cxr` -> a completion script for a shell."""

import argparse

from cxr_client.cli.arguments import parsers
from cxr_client.cli.status import EXIT_OK
from cxr_client.cli.usage import Parser

_BASH = """_cxr() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" words=""
    case "$COMP_CWORD ${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD-1]}}" in
        "1 "*) words="{commands}" ;;
{values}
        *) [[ "$current" != -* ]] || case "${{COMP_WORDS[1]}}" in
{options}
        esac ;;
    esac
    # Without words, bash completes names of files.
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _cxr cxr"""

_ZSH = """_cxr() {{
    local state
    _arguments '1:command:(({commands}))' '*::argument:->command'
    [[ -n $state ]] && case $words[1] in
{cases}
    esac
}}
compdef _cxr cxr"""


async def completion(arguments: argparse.Namespace) -> int:
    """Print a shell's script."""
    _, commands = parsers()
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[arguments.shell](commands))
    return EXIT_OK


def _bash(commands: dict[str, Parser]) -> str:
    values, options = [], []
    for name, parser in commands.items():
        names = " ".join(option for action in parser.options for option in action.option_strings)
        options.append(f'            {name}) words="{names}" ;;')
        for action in parser.positionals:
            if action.choices:
                values.append(f'        "2 {name} "*) words="{_choices(action)}" ;;')
        for action in parser.options:
            for option in action.option_strings if action.nargs != 0 else ():
                values.append(f'        *" {name} {option}") words="{_choices(action)}" ;;')
    return _BASH.format(
        commands=" ".join(commands), values="\n".join(values), options="\n".join(options)
    )


def _zsh(commands: dict[str, Parser]) -> str:
    def value(action: argparse.Action) -> str:
        name = str(action.metavar or action.dest).replace(":", "\\:")
        return f":{name}:({_choices(action)})" if action.choices else f":{name}:_files"

    cases = []
    for name, parser in commands.items():
        specs = [
            f"'{option}[{_quoted(action.help)}]{value(action) if action.nargs != 0 else ''}'"
            for action in parser.options
            for option in action.option_strings
        ]
        specs += [f"'*{value(action)}'" for action in parser.positionals]
        cases.append(f"        {name}) _arguments {' '.join(specs)} ;;")
    names = " ".join(f'{name}\\:"{parser.description}"' for name, parser in commands.items())
    return _ZSH.format(commands=names, cases="\n".join(cases))


def _fish(commands: dict[str, Parser]) -> str:
    lines = [
        f"complete -c cxr -f -n __fish_use_subcommand -a {name} -d '{parser.description}'"
        for name, parser in commands.items()
    ]
    for name, parser in commands.items():
        seen = f"complete -c cxr -n '__fish_seen_subcommand_from {name}'"
        for action in parser.positionals:
            if action.choices:
                lines.append(f"{seen} -f -a '{_choices(action)}'")
        for action in parser.options:
            value = f" -x -a '{_choices(action)}'" if action.choices else " -r"
            for option in action.option_strings:
                kind = "-l" if option.startswith("--") else "-s"
                line = f"{seen} {kind} {option.lstrip('-')} -d '{_quoted(action.help)}'"
                lines.append(line + (value if action.nargs != 0 else ""))
    return "\n".join(lines)


def _choices(action: argparse.Action) -> str:
    return " ".join(action.choices or ())


def _quoted(text: str | None) -> str:
    """Return a help text for a word in single quotes, without what the shells give a meaning."""
    return "".join(char for char in text or "" if char not in "'\\[]")
