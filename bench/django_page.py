"""A small Django project in one file: the usual middleware and one view, without a database."""

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    LOGGING_CONFIG=None,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="benchmark",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    USE_TZ=True,
)
django.setup()


def page(request):
    return HttpResponse("<!doctype html><title>item</title><p>Hello, world!</p>")


def item(request):
    return JsonResponse({"number": 1, "name": "item", "tags": ["a", "b"]})


urlpatterns = [path("", page), path("item", item)]
application = get_wsgi_application()
