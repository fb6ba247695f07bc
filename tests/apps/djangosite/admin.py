"""Registers the notes with the admin."""

from django.contrib import admin

from apps.djangosite.models import Note

admin.site.register(Note)
