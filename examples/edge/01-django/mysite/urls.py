"""One page."""

from django.http import HttpResponse
from django.urls import path


def home(request):
    return HttpResponse("home\n", content_type="text/plain")


urlpatterns = [path("", home)]
