"""One table."""

from django.db import models


class Note(models.Model):
    """A note of a visitor."""

    text = models.CharField(max_length=200)

    class Meta:
        ordering = ["id"]
