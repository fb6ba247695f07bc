"""Pages."""

from __future__ import annotations

import threading

from django.contrib import admin
from django.db import connection
from django.db.backends.signals import connection_created
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from apps.djangosite.models import Note

connections_made = []
connection_created.connect(lambda **_: connections_made.append(threading.get_ident()), weak=False)


def visits(request):
    """Counts the visits in the session."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"visit {request.session['visits']}")


@csrf_exempt
def notes(request):
    """Adds a note, or lists them."""
    if request.method == "POST":
        Note.objects.create(text=request.POST["text"])
        return HttpResponse(status=201)
    return JsonResponse({"notes": list(Note.objects.values_list("text", flat=True))})


@csrf_exempt
def upload(request):
    """Tells names and sizes."""
    return JsonResponse({name: sum(map(len, file.chunks())) for name, file in request.FILES.items()})


@csrf_exempt
def raw(request):
    """Tells the length of the raw body."""
    return HttpResponse(str(len(request.body)))


def stream(request):
    """Rows of the database, one block each."""
    return StreamingHttpResponse(
        (f"{note.text}\n" for note in Note.objects.iterator()), content_type="text/plain"
    )


def download(request):
    """A file through wsgi.file_wrapper."""
    return FileResponse(open(__file__, "rb"), content_type="text/x-python")


def database_connections(request):
    """How many connections this process has made, by as many threads."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"made": len(connections_made), "threads": len(set(connections_made))})


def broken(request):
    """Fails."""
    raise ValueError("planted error")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("visits", visits),
    path("notes", notes),
    path("upload", upload),
    path("raw", raw),
    path("stream", stream),
    path("download", download),
    path("connections", database_connections),
    path("broken", broken),
]
