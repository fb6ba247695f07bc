"""The paths of a Django project, and its views."""

import os

from blog import views
from django.http import HttpResponse
from django.urls import path

main = HttpResponse(os.environ.get("RUN_MAIN", ""))
urlpatterns = [path("", views.index), path("main", lambda request: main)]
