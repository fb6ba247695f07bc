"""The application's side of the meeting place."""

from harness.rendezvous import Rendezvous

rendezvous = Rendezvous.from_environment()
