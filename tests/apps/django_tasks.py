"""A site of Django in one file whose views enqueue tasks."""

from __future__ import annotations

import threading

import django
from django.conf import settings

settings.configure(
    DEBUG=False,
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    USE_TZ=True,
    TASKS={"default": {"BACKEND": "portico.contrib.django.tasks.PoolBackend"}},
)
django.setup()

from django.core.handlers.wsgi import WSGIHandler  # noqa: E402 (after the settings)
from django.http import HttpResponse  # noqa: E402
from django.tasks import TaskResultStatus, task, task_backends  # noqa: E402
from django.tasks.exceptions import InvalidTask  # noqa: E402
from django.tasks.signals import task_enqueued, task_finished, task_started  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402

from apps.meeting import rendezvous  # noqa: E402

results = {}


@task
def greet(name: str, *, times: int = 1) -> str:
    rendezvous.hold(f"greet {name}", 30)
    thread = threading.current_thread().name.rsplit("-", 1)[0]
    rendezvous.emit(f"greeted {name} {times} in {thread}")
    return name * times


@task(takes_context=True)
def tell(context) -> None:
    rendezvous.emit(f"attempt {context.attempt}")


@task
async def wait() -> None:
    rendezvous.emit("waited")


@task
def fail() -> None:
    raise ValueError("the task failed on purpose")


def said(what: str):
    def receive(sender, task_result, **_):
        rendezvous.emit(f"{what} {task_result.task.name} {task_result.status}")

    return receive


RECEIVERS = [
    (task_enqueued, said("enqueued")),
    (task_started, said("started")),
    (task_finished, said("finished")),
]
for signal, receiver in RECEIVERS:
    signal.connect(receiver)


def enqueue(request, name):
    result = greet.enqueue(name, times=2)
    results[result.id] = result
    return HttpResponse(f"{result.id} {result.status}")


def result(request, identity):
    found = results[identity]
    value = found.return_value if found.status == TaskResultStatus.SUCCESSFUL else None
    return HttpResponse(f"{found.status} {value} {found.attempts}")


def others(request):
    tell.enqueue()
    wait.enqueue()
    fail.enqueue()
    return HttpResponse("ok")


def refused(request):
    told = []
    for changes in ({"priority": 5}, {"run_after": timezone.now()}):
        try:
            greet.using(**changes)
        except InvalidTask as error:
            told.append(str(error))
    try:
        greet.enqueue(object())
    except TypeError as error:
        told.append(str(error))
    backend = task_backends["default"]
    return HttpResponse("\n".join([*told, str(backend.supports_get_result), str(backend.check())]))


urlpatterns = [
    path("enqueue/<name>", enqueue),
    path("result/<identity>", result),
    path("others", others),
    path("refused", refused),
]
application = WSGIHandler()
