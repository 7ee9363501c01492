"""Checks: what `manage.py check` finds wrong before a user does.

`values` looks at OUTBOX, `project` at what is around the app, `deploy`, by `check --deploy`, at what is dangerous in production.
None connects but for what `check --database` asks for.
"""

from django.core import checks

from outbox.checks import deploy, project, values


def register_all() -> None:
    """Adds the checks to Django's; called once, when the app is ready."""
    checks.register(values.check_outbox)
    checks.register(values.check_relay)
    checks.register(values.check_old_names)
    checks.register(values.check_channels_for)
    checks.register(values.check_secret, checks.Tags.security)
    checks.register(project.check_engine, checks.Tags.models)
    checks.register(project.check_tables, checks.Tags.models)
    checks.register(project.check_middleware)
    checks.register(project.check_migrated, checks.Tags.database)
    checks.register(deploy.check_deploy, checks.Tags.security, deploy=True)
