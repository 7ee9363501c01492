"""The shop's settings. What the outbox needs is marked with "outbox"; the rest is any Django project's."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = os.environ.get("DEBUG") == "true"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1").split(",")

INSTALLED_APPS = [
    "store",  # first, for its template of the admin's
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "outbox",  # outbox
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "outbox.middleware.OutboxMiddleware",  # outbox: after AuthenticationMiddleware
]

# outbox: what a user may read, and how long a log-out may take to end a stream. The secret is derived from SECRET_KEY, unless the
# relay runs elsewhere and the two are given one.
OUTBOX = {
    "SECRET": os.environ.get("JWT_SECRET"),
    "CHANNELS_FOR": "store.channels.channels_for",
    "TOKEN_SECONDS": int(os.environ.get("OUTBOX_TOKEN_SECONDS", "300")),
}

_database = urlsplit(os.environ["DATABASE_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _database.hostname,
        "PORT": _database.port,
        "NAME": _database.path[1:],
        "USER": unquote(_database.username or ""),
        "PASSWORD": unquote(_database.password or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # As large projects have it; snapshot takes its views out.
        "ATOMIC_REQUESTS": True,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "orders"
LOGOUT_REDIRECT_URL = "login"
# Known to whoever reads this; so the example is for one's own machine.
DEMO_PASSWORD = "outbox"

USE_TZ = True
TIME_ZONE = "UTC"

# Served by WhiteNoise from where the files are: htmx 2 with its extension and htmx 4 are npm packages.
STATIC_URL = "static/"
_packages = Path(os.environ.get("NODE_MODULES", BASE_DIR.parent.parent / "node_modules"))
STATICFILES_DIRS = [
    ("htmx", _packages / "htmx.org" / "dist"),
    ("htmx-ext-sse", _packages / "htmx-ext-sse" / "dist"),
    ("htmx4", _packages / "htmx4" / "dist"),
]
WHITENOISE_USE_FINDERS = True

# Several of them run at the same place, on ports of their own, and cookies do not tell ports apart.
SESSION_COOKIE_NAME = os.environ.get("SESSION_COOKIE_NAME", "shop_session")
