"""A backend for Django's tasks (Django 6) that runs them in the worker, after the response.

::

    TASKS = {"default": {"BACKEND": "portico.contrib.django.tasks.PoolBackend"}}

``enqueue()`` returns at once, and the task runs in one of the threads of ``--after-threads`` once the
response of the request has been handed over; outside of requests, at once. Best effort: tasks are in the
memory of the process, and are not run again. What must not be lost belongs in a backend with a database or
a broker.
"""

from __future__ import annotations

from traceback import format_exception
from typing import Any

from django.db import close_old_connections
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.utils.json import normalize_json

import portico

__all__ = ["PoolBackend"]


class PoolBackend(BaseTaskBackend):
    """Runs tasks by ``portico.after_response``.

    ``OPTIONS`` has nothing. Results cannot be looked up later: a ``TaskResult`` changes with its task, in
    the process that has it.
    """

    supports_defer = False
    supports_async_task = True
    supports_get_result = False
    supports_priority = False

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.worker_id = get_random_string(32)

    def enqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        """Has the task run. Raises ``portico.AfterResponseRefused`` where that is not possible."""
        self.validate_task(task)
        result = TaskResult(
            task=task,
            id=get_random_string(32),
            status=TaskResultStatus.READY,
            enqueued_at=timezone.now(),
            started_at=None,
            last_attempted_at=None,
            finished_at=None,
            args=args,
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        portico.after_response(self._run, result)
        task_enqueued.send(type(self), task_result=result)
        return result

    def _run(self, result: TaskResult) -> None:
        # The threads of the pool have connections of their own, which no request closes.
        close_old_connections()
        try:
            self._call(result)
        finally:
            close_old_connections()

    def _call(self, result: TaskResult) -> None:
        task, now = result.task, timezone.now()
        _set(result, status=TaskResultStatus.RUNNING, started_at=now, last_attempted_at=now)
        result.worker_ids.append(self.worker_id)
        task_started.send(sender=type(self), task_result=result)
        try:
            context = (TaskContext(task_result=result),) if task.takes_context else ()
            value = normalize_json(task.call(*context, *result.args, **result.kwargs))
        except BaseException as error:
            kind = type(error)
            path = f"{kind.__module__}.{kind.__qualname__}"
            traceback = "".join(format_exception(error))
            result.errors.append(TaskError(exception_class_path=path, traceback=traceback))
            _set(result, status=TaskResultStatus.FAILED, finished_at=timezone.now())
            task_finished.send(type(self), task_result=result)
            # With the request that it was enqueued in, as all that fails after a response.
            raise
        _set(result, status=TaskResultStatus.SUCCESSFUL, finished_at=timezone.now(), _return_value=value)
        task_finished.send(type(self), task_result=result)


def _set(result: TaskResult, **fields: Any) -> None:
    """Changes a result, which is frozen for everybody else."""
    for name, value in fields.items():
        object.__setattr__(result, name, value)
