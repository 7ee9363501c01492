/**
 * Scripts that complete the command line in a shell, made from the sub-commands as they are.
 */
import type { Command } from 'commander';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

interface Completion {
  readonly command: string;
  readonly summary: string;
  /** What its argument may be. */
  readonly choices: readonly string[];
  readonly options: readonly { readonly flag: string; readonly description: string; readonly takesValue: boolean }[];
}

/** @returns the script, for the shell to read */
export function completionScript(program: Command, shell: Shell): string {
  const help = program.createHelp();
  const completions = help.visibleCommands(program).map((command): Completion => ({
    command: command.name(),
    summary: command.summary() || command.description(),
    choices:
      command.name() === 'help'
        ? program.commands.map((other) => other.name())
        : command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
    options: help.visibleOptions(command).map(({ long, description, required }) => ({
      flag: long ?? '',
      description,
      takesValue: required,
    })),
  }));
  return { bash, zsh, fish }[shell](completions);
}

const wordsOf = ({ choices, options }: Completion) => [...choices, ...options.map(({ flag }) => flag)].join(' ');

function bash(completions: readonly Completion[]): string {
  return `_outbox_relay() {
  local words
  if [ "$COMP_CWORD" -eq 1 ]; then
    words='${completions.map(({ command }) => command).join(' ')} --help --version'
  else
    case "\${COMP_WORDS[1]}" in
${completions.map((completion) => `      ${completion.command}) words='${wordsOf(completion)}' ;;`).join('\n')}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _outbox_relay outbox-relay`;
}

function zsh(completions: readonly Completion[]): string {
  const described = (word: string, description: string) => quoted(`${word}:${description}`);
  return `#compdef outbox-relay
_outbox_relay() {
  local -a found
  if (( CURRENT == 2 )); then
    found=(${completions.map(({ command, summary }) => described(command, summary)).join(' ')})
  else
    case "$words[2]" in
${completions
  .map(({ command, choices, options }) => {
    const items = [...choices.map(quoted), ...options.map(({ flag, description }) => described(flag, description))];
    return `      ${command}) found=(${items.join(' ')}) ;;`;
  })
  .join('\n')}
    esac
  fi
  _describe outbox-relay found
}
compdef _outbox_relay outbox-relay`;
}

function fish(completions: readonly Completion[]): string {
  return completions
    .flatMap(({ command, summary, choices, options }) => {
      const inside = `complete -c outbox-relay -n '__fish_seen_subcommand_from ${command}' -f`;
      return [
        `complete -c outbox-relay -n __fish_use_subcommand -f -a ${command} -d ${quoted(summary)}`,
        ...(choices.length > 0 ? [`${inside} -a '${choices.join(' ')}'`] : []),
        ...options.map(
          ({ flag, description, takesValue }) =>
            `${inside} -l ${flag.slice(2)}${takesValue ? ' -r' : ''} -d ${quoted(description)}`,
        ),
      ];
    })
    .join('\n');
}

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
