"""`manage.py outbox_relay`: the relay, with everything from settings."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import REMAINDER, ArgumentParser
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from outbox import relay_environment as environment
from outbox.relay_program import RelayMissing, find_program


class Command(BaseCommand):
    help = (
        "Run outbox-relay on this project's outbox, with everything from settings: what a unit file or a container runs. "
        "Or run another of its commands: doctor, prune, roles, … (outbox_relay help lists them)."
    )
    # What is wrong elsewhere in the project does not keep the relay from running; the relay checks its own settings.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--print-env",
            action="store_true",
            help="print the relay's variables, without secrets, and run nothing",
        )
        parser.add_argument(
            "command", nargs=REMAINDER, help="a command of outbox-relay, with its options; default: start"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            variables = environment.alone()
            if options["print_env"]:
                self._print(variables)
                return
            node, main = find_program()
        except (ImproperlyConfigured, RelayMissing) as error:
            raise CommandError(str(error)) from error
        connections.close_all()
        _become([node, str(main), *options["command"]], environment.process_environment(variables))

    def _print(self, variables: dict[str, str]) -> None:
        for name, value in sorted(variables.items()):
            self.stdout.write(f"{name}={'(secret, not shown)' if name in environment.SECRET else value}")


def _become(command: list[str], env: dict[str, str]) -> NoReturn:
    """This process becomes the command, so that whoever started it reaches it with signals."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":
        # Without exec.
        sys.exit(subprocess.run(command, env=env, check=False).returncode)
    os.execve(command[0], command, env)
